import { add, constant, matmul, relu, type Tensor, tanh } from '../../src/index.js';
import {
  type CgLoraLinearParams,
  cgLoraLinear,
  type LoraLinearParams,
  linear,
  loraLinear,
  mergeLora,
  multiSampleDropout,
  reversibleBlockInverse,
  reversibleSequence,
} from '../../src/layers/index.js';
import { crossEntropyLoss } from '../../src/losses/index.js';
import { layerNorm } from '../../src/norm/index.js';
import type { Named } from '../../src/optim/index.js';
import { type Adapter, layer } from './adapter.js';

/** The files say what the shapes of the parameters say as well. */
function checkSize(name: string, stated: unknown, found: unknown): void {
  if (stated !== found) throw new Error(`golden: ${name} is ${stated}, but the parameters have ${found}`);
}

type Linear = { w: Tensor; b: Tensor };
const functions: Readonly<Record<string, (u: Tensor, p: Linear) => Tensor>> = {
  tanhLinear: (u, { w, b }) => tanh(add(matmul(u, w), b)),
  layerNormReluLinear: (u, { w, b }) => add(matmul(relu(layerNorm(u)), w), b),
};

const reversible: Adapter = (golden, context) => {
  const { function: name, blocks, ...unknown } = golden.options as { function: string; blocks: number };
  if (Object.keys(unknown).length > 0) throw new Error(`golden: the adapter does not know the option '${Object.keys(unknown)[0]}'`);
  const f = functions[name];
  if (!f) throw new Error(`golden: the adapter does not know the function '${name}'`);
  const numbers = Array.from({ length: blocks }, (_, i) => i);
  return layer(
    (x) => {
      const of = (letter: string): Linear => ({ w: x[`w${letter}`]!, b: x[`b${letter}`]! });
      const params = numbers.map((i) => ({ f: of(`F${i}`), g: of(`G${i}`) }));
      const y = reversibleSequence([x.x1!, x.x2!], params, { f, g: f });
      const [recoveredX1, recoveredX2] = params.reduceRight((z, p) => reversibleBlockInverse(z, p, { f, g: f }), y);
      return { y1: y[0], y2: y[1], recoveredX1, recoveredX2 };
    },
    ['x1', 'x2', ...numbers.flatMap((i) => [`wF${i}`, `bF${i}`, `wG${i}`, `bG${i}`])],
  )(golden, context);
};

const multiSample = layer(
  ({ x, w, bias, masks }, { labels, ...options }) => {
    const target = constant(labels as number[], { dtype: 'int32' });
    const head = (h: Tensor) => linear(h, { weight: w!, bias: bias! });
    return { loss: multiSampleDropout(x!, head, (logits) => crossEntropyLoss(logits, target), { ...options, masks: masks! }) };
  },
  ['x', 'w', 'bias', 'masks'],
);

const withWeight = ({ w, ...params }: Named): Named => ({ ...params, weight: w! });

export const layers: Readonly<Record<string, Adapter>> = {
  'loss-multi-sample-dropout': multiSample,
  'norm-cg-lora': layer(
    ({ x, text, camera, ...params }, { rank, bottleneck, ...options }) => {
      checkSize('rank', rank, params.loraUp?.shape[1]);
      checkSize('bottleneck', bottleneck, params.textDown?.shape[0]);
      return { y: cgLoraLinear(x!, withWeight(params) as unknown as CgLoraLinearParams, { text: text!, camera: camera! }, options) };
    },
    ['x', 'text', 'camera', 'textDown', 'textUp', 'camDown', 'camUp', 'loraUp', 'w'],
  ),
  'norm-lora-linear': layer(
    ({ x, ...named }, { rank, ...options }) => {
      const params = withWeight(named) as unknown as LoraLinearParams;
      checkSize('rank', rank, params.loraA.shape[0]);
      const { alpha } = options as { alpha: number };
      return { y: loraLinear(x!, params, options), mergedW: mergeLora(params, { alpha }).weight };
    },
    ['x', 'loraA', 'loraB', 'w', 'bias?'],
  ),
  'norm-multi-sample-dropout': multiSample,
  'norm-reversible-block': reversible,
};
