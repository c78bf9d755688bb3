import type { Rng } from 'tracegrad';
import { type Batch, batches, type Digits, imageAt, shuffled } from '../support/digits.js';

/** The most pixels by which a training image is moved, in every direction. */
const REACH = 2;

/** Batches in random order, every image moved a little: hardly ever does the model see the same one twice. */
export function shuffledBatches(digits: Digits, count: number, rng: Rng): Generator<Batch> {
  const moved = shuffled(digits, rng);
  for (let i = 0; i < moved.labels.length; i++) move(imageAt(moved, i), moved.size, rng);
  return batches(moved, count);
}

/** Moves an image in place, in a random direction; what comes in at the edges is paper. */
function move(image: Float32Array, size: number, rng: Rng): void {
  const down = rng.int(2 * REACH + 1) - REACH;
  const right = rng.int(2 * REACH + 1) - REACH;
  const before = image.slice();
  image.fill(0);
  for (let row = Math.max(0, -down); row < size - Math.max(0, down); row++) {
    const from = before.subarray(row * size + Math.max(0, -right), (row + 1) * size - Math.max(0, right));
    image.set(from, (row + down) * size + Math.max(0, right));
  }
}
