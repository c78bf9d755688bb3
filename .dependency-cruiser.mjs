/**
 * The floors of src/: what each may import. `npx depcruise src` and test/package/floors.test.ts check them.
 * Type-only imports count, except where a rule says otherwise.
 */

/** Floor -> the floors it may import besides itself. */
const floors = {
  core: [],
  onnx: ['core'],
  runtime: ['core', 'onnx'],
  norm: ['core'],
  losses: ['core'],
  layers: ['core'],
  optim: ['core'],
  sampling: ['core'],
  train: ['core', 'onnx', 'runtime', 'optim'],
};

/** Entry point -> the floors it may import. */
const entries = {
  index: ['core', 'onnx', 'runtime'],
  node: ['core', 'onnx', 'runtime'],
  web: ['core', 'onnx', 'runtime'],
  ndarray: ['core'],
};

/** Parts of core that know no Tensor at run time: what sampling may use. */
const hostOnly = '^src/core/(array|dtype|errors|rng|shape)\\.ts$';

const restrict = (name, from, allowed) => ({
  name,
  severity: 'error',
  from: { path: from },
  to: { path: '^src/', pathNot: `^src/(${allowed.join('|')})/` },
});

export default {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'not-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'every-module-has-a-floor',
      severity: 'error',
      from: {
        path: '^src/',
        pathNot: [`^src/(${Object.keys(floors).join('|')})/`, `^src/(${Object.keys(entries).join('|')})\\.ts$`],
      },
      to: {},
    },
    ...Object.entries(floors).map(([floor, below]) => restrict(`floor-of-${floor}`, `^src/${floor}/`, [floor, ...below])),
    ...Object.entries(entries).map(([entry, below]) => restrict(`floor-of-${entry}`, `^src/${entry}\\.ts$`, below)),
    {
      name: 'train-takes-only-types-of-optim',
      severity: 'error',
      from: { path: '^src/train/' },
      to: { path: '^src/optim/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'sampling-stays-on-the-host',
      severity: 'error',
      from: { path: '^src/sampling/' },
      to: { path: '^src/core/', pathNot: hostOnly, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'host-utilities-stay-on-the-host',
      severity: 'error',
      from: { path: hostOnly },
      to: { path: '^src/', pathNot: hostOnly, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'packages-only-in-their-entry',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(node|web|ndarray)\\.ts$' },
      to: { pathNot: '^src/', couldNotResolve: false },
    },
    {
      name: 'node-loads-only-onnxruntime-node',
      severity: 'error',
      from: { path: '^src/node\\.ts$' },
      to: { pathNot: ['^src/', '(^|/)node_modules/onnxruntime-node/'], dependencyTypesNot: ['core'] },
    },
    {
      name: 'web-loads-only-onnxruntime-web',
      severity: 'error',
      from: { path: '^src/web\\.ts$' },
      to: { pathNot: ['^src/', '(^|/)node_modules/onnxruntime-web/'] },
    },
    {
      name: 'ndarray-loads-only-ndarray',
      severity: 'error',
      from: { path: '^src/ndarray\\.ts$' },
      to: { pathNot: ['^src/', '(^|/)node_modules/(@types/)?ndarray/'] },
    },
  ],
  options: {
    // 'specify' tells type-only imports apart from those that are there at run time.
    tsPreCompilationDeps: 'specify',
    doNotFollow: { path: '(^|/)node_modules/' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['types', 'import', 'default'] },
  },
};
