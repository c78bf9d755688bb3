import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type ArrayLike, createRng, type Rng } from 'tracegrad';

/** Height and width of an image. */
export const SIZE = 28;
const PIXELS = SIZE * SIZE;

/** The most pixels by which a training image is moved, in every direction. */
const REACH = 2;

export interface Digits {
  /** Images one after the other, row by row, from 0 (paper) to 1 (ink). */
  readonly pixels: Float32Array;
  /** What they show. */
  readonly labels: Int32Array;
}

export interface Batch {
  /** `[N, 1, 28, 28]` */
  readonly images: ArrayLike;
  /** `[N]` */
  readonly labels: ArrayLike;
}

/** One image of many. */
export const imageAt = (pixels: Float32Array, index: number): Float32Array => pixels.subarray(index * PIXELS, (index + 1) * PIXELS);

/** The 10,000 digits of the package `mnist`, ordered by what they show. */
function readDigits(): Digits {
  // The files, not the package's API: that one makes an array and an object of every digit.
  const { resolve } = createRequire(import.meta.url);
  const files = Array.from({ length: 10 }, (_, digit) => {
    const { data } = JSON.parse(readFileSync(resolve(`mnist/src/digits/${digit}.json`), 'utf8')) as { data: number[] };
    return data;
  });
  const pixels = new Float32Array(files.reduce((total, data) => total + data.length, 0));
  const labels = new Int32Array(pixels.length / PIXELS);
  let end = 0;
  for (const [digit, data] of files.entries()) {
    pixels.set(data, end);
    labels.fill(digit, end / PIXELS, (end + data.length) / PIXELS);
    end += data.length;
  }
  return { pixels, labels };
}

/** The digits at the given places. */
function take({ pixels, labels }: Digits, places: Int32Array): Digits {
  const taken = new Float32Array(places.length * PIXELS);
  places.forEach((place, i) => {
    taken.set(imageAt(pixels, place), i * PIXELS);
  });
  return { pixels: taken, labels: places.map((place) => labels[place]!) };
}

const upTo = (count: number): Int32Array => Int32Array.from({ length: count }, (_, i) => i);

/**
 * Digits to train with, and others to test with. The split is always the same, so that results of different seeds compare.
 */
export function loadDigits(trainCount: number, testCount: number): { train: Digits; test: Digits } {
  const digits = readDigits();
  const order = createRng(0).shuffle(upTo(digits.labels.length));
  return { test: take(digits, order.subarray(0, testCount)), train: take(digits, order.subarray(testCount, testCount + trainCount)) };
}

/** Batches in the order of the digits; the last one may be smaller. */
export function* batches({ pixels, labels }: Digits, size: number): Generator<Batch> {
  for (let start = 0; start < labels.length; start += size) {
    const data = labels.subarray(start, start + size);
    const images = pixels.subarray(start * PIXELS, (start + data.length) * PIXELS);
    yield { images: { data: images, shape: [data.length, 1, SIZE, SIZE] }, labels: { data, shape: [data.length] } };
  }
}

/** Batches in random order, every image moved a little: hardly ever does the model see the same one twice. */
export function* shuffledBatches(digits: Digits, size: number, rng: Rng): Generator<Batch> {
  const order = rng.shuffle(upTo(digits.labels.length));
  for (let start = 0; start < order.length; start += size) {
    const some = take(digits, order.subarray(start, start + size));
    for (let i = 0; i < some.labels.length; i++) move(imageAt(some.pixels, i), rng);
    yield* batches(some, size);
  }
}

/** Moves an image in place, in a random direction; what comes in at the edges is paper. */
function move(image: Float32Array, rng: Rng): void {
  const down = rng.int(2 * REACH + 1) - REACH;
  const right = rng.int(2 * REACH + 1) - REACH;
  const before = image.slice();
  image.fill(0);
  for (let row = Math.max(0, -down); row < SIZE - Math.max(0, down); row++) {
    const from = before.subarray(row * SIZE + Math.max(0, -right), (row + 1) * SIZE - Math.max(0, right));
    image.set(from, (row + down) * SIZE + Math.max(0, right));
  }
}
