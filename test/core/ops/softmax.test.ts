import * as softmaxes from '../../../src/core/ops/softmax.js';
import { logSoftmax, softmax } from '../../../src/index.js';
import { given, normal } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const cases = [softmax, logSoftmax].flatMap((f) => [
  op(`${f.name} along the last axis`, [normal([2, 3])], (x) => f(x)),
  op(`${f.name} along the first axis`, [normal([4, 2])], (x) => f(x, { axis: 0 })),
  op(`${f.name} along a middle axis`, [normal([2, 3, 2])], (x) => f(x, { axis: -2 })),
  op(`${f.name} of a vector`, [normal([5])], (x) => f(x)),
  op(`${f.name} of an axis of size 1`, [normal([3, 1])], (x) => f(x)),
  op(`${f.name} of no rows`, [normal([0, 3])], (x) => f(x)),
  // x - logSumExp(x) has an absolute error in proportion to x.
  op(`${f.name} of large numbers`, [given([2, 3], [1000, 1001, 1002, -1000, -1001, -1000.5])], (x) => f(x), { rtol: 5e-5, webgpu: 1e-3 }),
]);

const large = [softmax, logSoftmax].flatMap((f) => [
  op(`${f.name} by rows`, [normal([331, 317])], (x) => f(x)),
  op(`${f.name} by columns`, [normal([331, 317])], (x) => f(x, { axis: 0 })),
  op(`${f.name} of one long row`, [normal([1, 100003])], (x) => f(x)),
]);

testOps(softmaxes, cases, large);
