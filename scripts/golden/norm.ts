import { layerNormWithStatistics } from '../../src/norm/index.js';
import { type Adapter, layer } from './adapter.js';

/** The files switch parameters off by options, where ours are left out. */
function checkSwitch(option: unknown, parameter: unknown, name: string): void {
  if (option !== undefined && option !== (parameter !== undefined)) {
    throw new Error(`golden: the option for ${name} is ${option}, but the input is ${parameter ? '' : 'not '}there`);
  }
}

export const norm: Readonly<Record<string, Adapter>> = {
  'norm-layer-norm': layer(
    ({ x, ...params }, { scale, bias, ...options }) => {
      checkSwitch(scale, params.weight, 'weight');
      checkSwitch(bias, params.bias, 'bias');
      return { ...layerNormWithStatistics(x!, params, options) };
    },
    ['x', 'weight?', 'bias?'],
    ['mean', 'rstd'],
  ),
};
