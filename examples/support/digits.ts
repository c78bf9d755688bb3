import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type ArrayLike, createRng, permutation, type Rng } from 'tracegrad';

/** Height and width of the images as they are read. */
export const SIZE = 28;

/** There are ten kinds of digits. */
export const CLASSES = 10;

export interface Digits {
  /** Height and width of an image. */
  readonly size: number;
  /** Images one after the other, row by row. As they are read: from 0 (paper) to 1 (ink). */
  readonly pixels: Float32Array;
  /** What they show. */
  readonly labels: Int32Array;
}

export interface Batch {
  /** `[N, 1, size, size]` */
  readonly images: ArrayLike;
  /** `[N]` */
  readonly labels: ArrayLike;
}

export interface Split {
  readonly train: Digits;
  readonly test: Digits;
}

/** One image of many. */
export const imageAt = ({ pixels, size }: Digits, index: number): Float32Array =>
  pixels.subarray(index * size * size, (index + 1) * size * size);

/** The 10,000 digits of the package `mnist`, ordered by what they show. */
function readDigits(): Digits {
  // The files, not the package's API: that one makes an array and an object of every digit.
  const { resolve } = createRequire(import.meta.url);
  const files = Array.from({ length: CLASSES }, (_, digit) => {
    const { data } = JSON.parse(readFileSync(resolve(`mnist/src/digits/${digit}.json`), 'utf8')) as { data: number[] };
    return data;
  });
  const pixels = new Float32Array(files.reduce((total, data) => total + data.length, 0));
  const labels = new Int32Array(pixels.length / SIZE ** 2);
  let end = 0;
  for (const [digit, data] of files.entries()) {
    pixels.set(data, end);
    labels.fill(digit, end / SIZE ** 2, (end + data.length) / SIZE ** 2);
    end += data.length;
  }
  return { size: SIZE, pixels, labels };
}

/** The digits at the given places. */
function take(digits: Digits, places: Uint32Array): Digits {
  const { size, labels } = digits;
  const pixels = new Float32Array(places.length * size * size);
  places.forEach((place, i) => {
    pixels.set(imageAt(digits, place), i * size * size);
  });
  return { size, pixels, labels: Int32Array.from(places, (place) => labels[place]!) };
}

/** The same digits in random order. */
export const shuffled = (digits: Digits, rng: Rng): Digits => take(digits, permutation(digits.labels.length, rng));

/**
 * Digits to train with, and others to test with. The split is always the same, so that results of different seeds compare.
 */
export function loadDigits(trainCount: number, testCount: number): Split {
  const digits = readDigits();
  const order = permutation(digits.labels.length, createRng(0));
  return { test: take(digits, order.subarray(0, testCount)), train: take(digits, order.subarray(testCount, testCount + trainCount)) };
}

/**
 * Fewer and smaller digits, for runs of a second: 1347 to train with and 450 to test with, of 8 x 8 pixels, whose mean is about 0.
 * (As many, and as small, as in scikit-learn's `load_digits`.)
 */
export function loadSmallDigits(): Split {
  const { train, test } = loadDigits(1347, 450);
  return { train: small(train), test: small(test) };
}

/** The 24 x 24 pixels in the middle, averaged over squares of 3 x 3. */
function small(digits: Digits): Digits {
  const [size, step, edge] = [8, 3, 2];
  const pixels = new Float32Array(digits.labels.length * size * size);
  for (let i = 0; i < digits.labels.length; i++) {
    const image = imageAt(digits, i);
    for (let row = 0; row < size * step; row++) {
      for (let column = 0; column < size * step; column++) {
        const place = (i * size + Math.floor(row / step)) * size + Math.floor(column / step);
        pixels[place]! += image[(row + edge) * SIZE + column + edge]! / step ** 2;
      }
    }
  }
  return { size, pixels: pixels.map((ink) => ink - 0.2), labels: digits.labels };
}

/** Batches in the order of the digits; the last one may be smaller. */
export function* batches({ size, pixels, labels }: Digits, count: number): Generator<Batch> {
  for (let start = 0; start < labels.length; start += count) {
    const data = labels.subarray(start, start + count);
    const images = pixels.subarray(start * size * size, (start + data.length) * size * size);
    yield { images: { data: images, shape: [data.length, 1, size, size] }, labels: { data, shape: [data.length] } };
  }
}
