import * as summation from '../../../src/core/ops/einsum.js';
import { einsum } from '../../../src/index.js';
import { normal } from '../../support/draw.js';
import { op, testOps } from '../../support/test-ops.js';

const row = (equation: string, ...shapes: (readonly number[])[]) =>
  op(
    `einsum ${equation} of ${shapes.map((shape) => `[${shape.join()}]`).join(' ')}`,
    shapes.map((shape) => normal(shape)),
    (...x) => einsum(equation, ...x),
  );

const cases = [
  row('ij->ji', [2, 3]),
  row('ijk->k', [2, 3, 4]),
  row('', []),
  row('ii->i', [3, 3]),
  row('ijij->ji', [2, 3, 2, 3]),
  row('iij,jkk->ik', [2, 2, 3], [3, 4, 4]),
  row('...ii->...', [2, 1, 3, 3]),
  row('ij,jk', [2, 3], [3, 4]),
  row('ji,kj->ik', [3, 2], [4, 3]),
  row('i,i->', [4], [4]),
  row('i,i->i', [4], [4]),
  row('i,j->ij', [2], [3]),
  row(',ij->ij', [], [2, 3]),
  row('bij,bkj->bki', [2, 3, 4], [2, 2, 4]),
  row('bqhd,bkhd->bhqk', [2, 2, 2, 3], [2, 3, 2, 3]),
  row('bsd,edh->bseh', [2, 2, 3], [2, 3, 2]),
  row('abcd,dcef->abfe', [2, 1, 3, 2], [2, 3, 2, 2]),
  row('bi,bi->b', [3, 4], [3, 4]),
  row('abi,bia->', [2, 3, 2], [3, 2, 2]),
  row('ijx,jky->ik', [2, 3, 2], [3, 2, 2]),
  row('...ij,...jk->...ik', [2, 1, 2, 3], [3, 3, 2]),
  row('...i,ij->...j', [2, 2, 3], [3, 2]),
  row('...,...->...', [2, 1], [3]),
  row('ij,jk->ik', [2, 1], [3, 2]),
  row('bi,bi->', [1, 3], [2, 3]),
  row('...i,kij,...j->...k', [2, 2], [3, 2, 3], [2, 3]),
  row('ij,jk,kl->il', [2, 3], [3, 2], [2, 4]),
  row('ij,jk->ik', [2, 0], [0, 3]),
  row('ij,jk->ik', [0, 2], [2, 3]),
  row('ii->', [0, 0]),
  op('einsum of one Tensor twice', [normal([3, 3])], (x) => einsum('ij,kj->ik', x, x)),
];

const large = [
  row('bqhd,bkhd->bhqk', [2, 50, 3, 20], [2, 400, 3, 20]),
  row('ij,kj->ki', [331, 20], [317, 20]),
  row('bi,bi->b', [331, 317], [331, 317]),
  row('ii->i', [331, 331]),
];

testOps(summation, cases, large);
