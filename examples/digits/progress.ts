import cliProgress from 'cli-progress';

/** Averages over samples: those of an epoch, the test digits. */
export interface Scores {
  readonly loss: number;
  /** From 0 to 1. */
  readonly accuracy: number;
}

/** The mean over batches that may differ in size. */
export class Average implements Scores {
  #loss = 0;
  #accuracy = 0;
  #count = 0;

  add({ loss, accuracy }: Scores, count: number): void {
    this.#loss += loss * count;
    this.#accuracy += accuracy * count;
    this.#count += count;
  }

  get loss(): number {
    return this.#loss / this.#count;
  }

  get accuracy(): number {
    return this.#accuracy / this.#count;
  }
}

/** What an epoch has come to, on the digits it trained with and on the others. */
export interface EpochScores {
  readonly train: Scores;
  readonly test: Scores;
}

export const percent = (share: number, digits = 1): string => `${(100 * share).toFixed(digits)} %`;

export interface Progress {
  /** That many samples more are done; the scores are those of the epoch so far. */
  advance(samples: number, epoch: number, scores: Scores): void;
  /** An epoch is over. */
  finish(epoch: number, scores: EpochScores): void;
  stop(): void;
}

/**
 * A line for every epoch that is over; in a terminal, below them, a bar for all of the training.
 *
 * @param finished epochs that are over already
 */
export function createProgress(epochs: number, samplesPerEpoch: number, finished: number): Progress {
  const total = epochs * samplesPerEpoch;
  const before = finished * samplesPerEpoch;
  const start = performance.now();
  let done = before;
  const fields = (epoch: number, { loss, accuracy }: Scores) => {
    const perSecond = (done - before) / ((performance.now() - start) / 1000);
    return {
      epoch: `epoch ${epoch}/${epochs}`,
      loss: `loss ${loss.toFixed(3)}`,
      accuracy: `accuracy ${percent(accuracy)}`,
      speed: `${perSecond.toFixed(0)} samples/s`,
      left: `${Math.ceil((total - done) / perSecond)} s left`,
    };
  };

  const bars = process.stdout.isTTY
    ? new cliProgress.MultiBar({
        // At most 80 columns.
        format: '{bar}  {epoch}  {loss}  {accuracy}  {speed}  {left}',
        barsize: 10,
        barCompleteChar: '█',
        barIncompleteChar: '░',
        clearOnComplete: true,
        // The library would catch Ctrl+C, and the training would go on.
        gracefulExit: false,
        stream: process.stdout,
      })
    : undefined;
  const bar = bars?.create(total, done, { epoch: 'compiling', loss: '', accuracy: '', speed: '', left: '' });
  return {
    advance: (samples, epoch, scores) => {
      done += samples;
      bar?.update(done, fields(epoch, scores));
    },
    finish: (epoch, { train, test }) => {
      const { speed, left, ...own } = fields(epoch, train);
      const line = [...Object.values(own), `test accuracy ${percent(test.accuracy)}`];
      if (bars) bars.log(`${line.join('  ')}\n`);
      else console.log([...line, speed, left].join('  '));
    },
    stop: () => {
      // Lines that wait for the next redraw.
      bars?.update();
      bars?.stop();
    },
  };
}
