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
