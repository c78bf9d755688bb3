import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';

/** Draws a Vega-Lite chart as an SVG file. */
export async function savePlot(path: string, spec: TopLevelSpec): Promise<void> {
  const view = new View(parse(compile({ background: 'white', ...spec }).spec), { renderer: 'none' });
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, await view.toSVG());
  view.finalize();
}

type Panel = Extract<TopLevelSpec, { concat: unknown }>['concat'][number];

interface Comparison {
  readonly title: string;
  /** What the values are. */
  readonly axis: string;
  /** The largest value that has a place. Default: the largest that there is. */
  readonly largest?: number;
  readonly results: readonly { readonly method: string; readonly values: readonly number[] }[];
}

/** A panel that compares methods: a bar for the mean of the values and a point for each. */
export const comparison = ({ title, axis, largest, results }: Comparison): Panel => ({
  title,
  width: 240,
  data: { values: results.flatMap(({ method, values }) => values.map((value) => ({ method, value }))) },
  encoding: {
    x: {
      field: 'value',
      type: 'quantitative',
      title: axis,
      scale: { nice: true, domainMin: 0, ...(largest !== undefined && { domainMax: largest }) },
    },
    y: { field: 'method', type: 'nominal', title: null, sort: null },
  },
  layer: [
    { mark: { type: 'bar', opacity: 0.4 }, encoding: { x: { field: 'value', aggregate: 'mean', title: axis } } },
    { mark: { type: 'point', filled: true, opacity: 1 } },
  ],
});
