/** A program of its own, to be killed: `node save-child.js <file>` saves one checkpoint after the other and prints the number of each. */
import { filled } from '../../src/index.js';
import { writeFileAtomic } from '../../src/node.js';
import { save } from '../../src/train/index.js';

const [file] = process.argv.slice(2) as [string];
for (let step = 0; ; step++) {
  // Sizes differ, so that no file is right at the length of another.
  const w = filled([100_000 + 20_000 * (step % 5)], step);
  const snapshot = { step, seed: 0, params: { w }, optimizer: {}, state: {} };
  await writeFileAtomic(file, await save({ snapshot: async () => snapshot, restore: async () => undefined }));
  console.log(step);
}
