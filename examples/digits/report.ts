import { type ScaleContinuousNumeric, scaleLinear, scaleLog } from 'd3-scale';
import { CLASSES, type Digits, imageAt, SIZE } from '../support/digits.js';
import { type EpochScores, percent } from './progress.js';

/** At most so many misread digits are shown. */
const SHOWN = 24;

/** What the model reads in an image, and how sure it is, from 0 to 1. */
export interface Reading {
  readonly digit: number;
  readonly confidence: number;
}

export interface Run {
  readonly history: readonly EpochScores[];
  /** The training loss of every step. */
  readonly stepLosses: readonly number[];
  readonly test: Digits;
  /** What the model reads in the test digits. */
  readonly predicted: readonly Reading[];
  readonly device: string;
  readonly seed: number;
  /** Duration of the training. */
  readonly seconds: number;
  readonly trainCount: number;
  readonly parameterCount: number;
}

/** The most likely digit of every row of 10 logits, with its probability by softmax. */
export function readings(logits: Float32Array): Reading[] {
  return Array.from({ length: logits.length / CLASSES }, (_, i) => {
    const row = logits.subarray(i * CLASSES, (i + 1) * CLASSES);
    const largest = Math.max(...row);
    return { digit: row.indexOf(largest), confidence: 1 / row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0) };
  });
}

/** A page without scripts that needs no other file. */
export function report(run: Run): string {
  const { history, predicted, test, trainCount, seconds } = run;
  const misread = predicted.filter(({ digit }, i) => digit !== test.labels[i]).length;
  const accuracy = percent(1 - misread / predicted.length, 2);
  const facts = {
    'test accuracy': accuracy,
    'misread test digits': `${count(misread)} of ${count(predicted.length)}`,
    'training digits': count(trainCount),
    epochs: count(history.length),
    'training time': `${seconds.toFixed(1)} s`,
    'samples per second': count(Math.round((trainCount * history.length) / seconds)),
    parameters: count(run.parameterCount),
  };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Handwritten digits, ${accuracy}</title>
<style>${style}</style>
</head>
<body>
<main>
<header>
<h1>Handwritten digits</h1>
<p>Two convolutions with layer normalization and a linear layer, trained with tracegrad (device ${run.device}, seed ${run.seed}).</p>
</header>
<dl class="facts">${each(Object.entries(facts), ([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
<section aria-labelledby="curves">
<h2 id="curves">Loss and accuracy</h2>
<div class="charts">${lossChart(run)}${accuracyChart(run)}</div>
<p class="note">Training digits are moved by up to two pixels at random, and their scores are taken while the model still learns;
test digits come as they are. That is why the test digits score better early on.</p>
</section>
<section aria-labelledby="confusion">
<h2 id="confusion">Confusion matrix</h2>
${confusionMatrix(run)}
</section>
<section aria-labelledby="misread">
<h2 id="misread">Misread digits</h2>
${misreadDigits(run)}
</section>
<footer>The digits are from the MNIST database by Yann LeCun, Corinna Cortes and Christopher J. C. Burges.</footer>
</main>
</body>
</html>
`;
}

const count = (n: number): string => n.toLocaleString('en-US');
const each = <T>(items: readonly T[], draw: (item: T, index: number) => string): string => items.map(draw).join('');

// The curves

interface Line {
  readonly name: string;
  readonly style: 'train' | 'test';
  /** In epochs, and in what the chart shows. */
  readonly points: readonly Point[];
}

type Point = readonly [epoch: number, value: number];

interface Chart {
  readonly title: string;
  readonly description: string;
  readonly lines: readonly Line[];
  readonly scale: ScaleContinuousNumeric<number, number>;
  /** Of the values at the axis; those with an empty label are left out. */
  readonly label: (value: number) => string;
  /** Of the values of single points. */
  readonly format: (value: number) => string;
}

const WIDTH = 520;
const HEIGHT = 300;
const BOX = { left: 46, right: WIDTH - 10, top: 10, bottom: HEIGHT - 42 };
/** A line of more points goes without dots. */
const DOTS = 40;

function lineChart({ title, description, lines, scale, label, format }: Chart): string {
  const epochs = Math.max(...lines.flatMap(({ points }) => points.map(([epoch]) => epoch)));
  const x = scaleLinear([0, epochs], [BOX.left, BOX.right]);
  const y = scale.copy().range([BOX.bottom, BOX.top]);
  const rows = y.ticks(6).filter((tick) => label(tick) !== '');
  const columns = x.ticks(Math.min(epochs, 8)).filter(Number.isInteger);
  const left = (epoch: number) => x(epoch).toFixed(1);
  const top = (value: number) => y(value).toFixed(1);
  const line = ({ style, points }: Line) =>
    `<polyline class="${style}" points="${points.map(([epoch, value]) => `${left(epoch)},${top(value)}`).join(' ')}"/>`;
  const dots = ({ name, style, points }: Line) =>
    each(points.length > DOTS ? [] : points, ([epoch, value]) => {
      const hint = `${name}, epoch ${epoch}: ${format(value)}`;
      return `<circle class="${style}" cx="${left(epoch)}" cy="${top(value)}" r="4"><title>${hint}</title></circle>`;
    });
  return `
<figure>
<figcaption><h3>${title}</h3><ul class="legend">${each(lines, ({ name, style }) => `<li class="${style}">${name}</li>`)}</ul></figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${description}">
${each(rows, (tick) => `<path class="grid" d="M${BOX.left} ${top(tick)}H${BOX.right}"/>`)}
${each(rows, (tick) => `<text x="${BOX.left - 8}" y="${top(tick)}" dy="0.32em" text-anchor="end">${label(tick)}</text>`)}
${each(columns, (tick) => `<text x="${left(tick)}" y="${BOX.bottom + 20}" text-anchor="middle">${tick}</text>`)}
<text x="${(BOX.left + BOX.right) / 2}" y="${HEIGHT - 4}" text-anchor="middle">epochs</text>
${each(lines, line)}
${each(lines, dots)}
</svg>
</figure>`;
}

/** The loss of single batches is all noise: means of about a hundred groups of steps that follow each other. */
function trainingLosses(losses: readonly number[], epochs: number): { steps: number; points: Point[] } {
  const groups = Math.min(losses.length, 100);
  const steps = losses.length / groups;
  const points = Array.from({ length: groups }, (_, i): Point => {
    const some = losses.slice(Math.round(i * steps), Math.round((i + 1) * steps));
    return [((i + 0.5) / groups) * epochs, some.reduce((sum, loss) => sum + loss, 0) / some.length];
  });
  return { steps: Math.round(steps), points };
}

function lossChart({ history, stepLosses }: Run): string {
  const train = trainingLosses(stepLosses, history.length);
  const test = history.map(({ test }, i): Point => [i + 1, test.loss]);
  const last = history.at(-1)!;
  const values = [...train.points, ...test].map(([, loss]) => loss);
  return lineChart({
    title: 'Loss (logarithmic)',
    description: `Loss per epoch; in the end ${last.train.loss.toFixed(3)} in training, ${last.test.loss.toFixed(3)} in the test.`,
    lines: [
      { name: train.steps === 1 ? 'training' : `training, means of ${train.steps} steps`, style: 'train', points: train.points },
      { name: 'test', style: 'test', points: test },
    ],
    scale: scaleLog([Math.min(...values) * 0.9, Math.max(...values) * 1.1], [0, 1]),
    label: (loss) => (/^[125]/.test(loss.toExponential()) ? String(Number(loss.toPrecision(1))) : ''),
    format: (loss) => loss.toFixed(4),
  });
}

function accuracyChart({ history }: Run): string {
  const last = history.at(-1)!;
  const lowest = Math.min(...history.flatMap(({ train, test }) => [train.accuracy, test.accuracy]));
  return lineChart({
    title: 'Accuracy',
    description: `Accuracy per epoch; in the end ${percent(last.train.accuracy)} in training, ${percent(last.test.accuracy)} in the test.`,
    lines: [
      { name: 'training, means of epochs', style: 'train', points: history.map(({ train }, i) => [i + 1, train.accuracy]) },
      { name: 'test', style: 'test', points: history.map(({ test }, i) => [i + 1, test.accuracy]) },
    ],
    scale: scaleLinear([Math.floor(lowest * 20) / 20, 1], [0, 1]),
    label: (accuracy) => percent(accuracy, 0),
    format: (accuracy) => percent(accuracy, 2),
  });
}

// The confusion matrix

function confusionMatrix({ predicted, test }: Run): string {
  const counts = Array.from({ length: CLASSES }, () => new Array<number>(CLASSES).fill(0));
  predicted.forEach(({ digit }, i) => {
    counts[test.labels[i]!]![digit]!++;
  });
  const worst = Math.max(1, ...counts.flatMap((row, truth) => row.filter((_, digit) => digit !== truth)));
  const digits = counts.map((_, digit) => digit);
  const cell = (n: number, share: number, kind: string) =>
    `<td class="${n === 0 ? 'none' : kind}" style="--share:${share.toFixed(2)}">${n}</td>`;
  return `<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">
<table>
<caption>How many test digits of every kind (rows) were read as what (columns).</caption>
<thead><tr><th scope="col">digit</th>${each(digits, (digit) => `<th scope="col">${digit}</th>`)}<th scope="col">correct</th></tr></thead>
<tbody>
${each(counts, (row, truth) => {
  const total = row.reduce((sum, n) => sum + n, 0);
  const cells = each(row, (n, digit) => (digit === truth ? cell(n, n / Math.max(total, 1), 'right') : cell(n, n / worst, 'wrong')));
  return `<tr><th scope="row">${truth}</th>${cells}<td class="sum">${total === 0 ? '' : percent(row[truth]! / total)}</td></tr>\n`;
})}</tbody>
</table>
</div>`;
}

// The misread digits

function misreadDigits({ predicted, test }: Run): string {
  const misread = predicted
    .map((reading, index) => ({ ...reading, index, truth: test.labels[index]! }))
    .filter(({ digit, truth }) => digit !== truth)
    .sort((a, b) => b.confidence - a.confidence);
  if (misread.length === 0) return '<p>None.</p>';
  const shown = misread.slice(0, SHOWN);
  const which =
    shown.length < misread.length ? `The ${shown.length} of ${misread.length} where the model was surest` : 'All of them, the surest first';
  return `<p>${which}: what is meant, what was read, and how sure the model was of that.</p>
<ul class="digits">
${each(shown, ({ digit, truth, confidence, index }) => {
  const sure = `${percent(confidence, 0)} sure`;
  const image = drawing(imageAt(test, index), `A ${truth} that was read as ${digit}`);
  return `<li>${image}<span>${truth} <small>read as</small> ${digit}</span><small>${sure}</small></li>\n`;
})}</ul>`;
}

/** An image as squares of ink in eight strengths, one path each: crisp at any size, and in the colours of the page. */
function drawing(image: Float32Array, label: string): string {
  const strengths = Array.from({ length: 8 }, (_, i) => (i + 1) / 8);
  const paths = strengths.map(() => '');
  image.forEach((ink, i) => {
    const strength = Math.round(ink * strengths.length);
    if (strength > 0) paths[strength - 1] += `M${i % SIZE} ${Math.floor(i / SIZE)}h1v1h-1z`;
  });
  const ink = each(strengths, (strength, i) => (paths[i] === '' ? '' : `<path opacity="${strength}" d="${paths[i]}"/>`));
  const look = 'fill="currentColor" shape-rendering="crispEdges"';
  return `<svg viewBox="0 0 ${SIZE} ${SIZE}" role="img" aria-label="${label}" ${look}>${ink}</svg>`;
}

const style = `
:root {
  --page: #f6f7f9; --card: #fff; --text: #1b1f27; --soft: #5b6472; --rule: #dfe3ea;
  --train: #1f62d0; --test: #c2410c; --right: 37 99 235; --wrong: 234 88 12;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11141a; --card: #1a1f28; --text: #e8ebf1; --soft: #9ba5b4; --rule: #2d3441;
    --train: #7fabff; --test: #ff9d5c; --right: 96 150 255; --wrong: 255 140 70;
  }
}
* { box-sizing: border-box; margin: 0; }
body { background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem; display: grid; gap: 2.5rem; grid-template-columns: minmax(0, 1fr); }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.02em; }
h2 { font-size: 1.25rem; margin-bottom: 0.75rem; }
h3 { font-size: 1rem; }
header p, footer, .note, caption, small { color: var(--soft); }
.note, footer, caption { font-size: 0.875rem; }
.note { margin-top: 0.75rem; max-width: 46rem; }
ul { list-style: none; padding: 0; }
figure, .facts, .scroll, .digits li { background: var(--card); border: 1px solid var(--rule); border-radius: 0.75rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1px; overflow: hidden; }
.facts div {
  display: flex; flex-direction: column-reverse; justify-content: flex-end;
  padding: 0.75rem 1rem; box-shadow: 0 0 0 1px var(--rule);
}
.facts dt { color: var(--soft); font-size: 0.8125rem; }
.facts dd { font-size: 1.25rem; font-weight: 600; white-space: nowrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.25rem; }
figure { padding: 1rem; }
figcaption { margin-bottom: 0.5rem; }
figure svg { display: block; width: 100%; height: auto; font-size: 12px; }
figure text { fill: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: 0.8125rem; color: var(--soft); }
.legend li::before {
  content: ''; display: inline-block; width: 1.1em; margin-right: 0.4em; vertical-align: middle;
  border-top: 3px solid var(--line);
}
.train { --line: var(--train); }
.test { --line: var(--test); }
.grid { stroke: var(--rule); }
polyline { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round; }
circle { fill: var(--line); stroke: var(--card); stroke-width: 1.5; }
circle.test { fill: var(--card); stroke: var(--line); stroke-width: 2; }
.scroll { overflow-x: auto; padding: 1rem; width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 3px; text-align: center; }
caption { caption-side: top; text-align: left; padding-bottom: 0.5rem; }
th, td { min-width: 3rem; height: 2.25rem; padding: 0 0.5rem; border-radius: 0.3rem; }
th { color: var(--soft); font-weight: 600; }
td.right { background: rgb(var(--right) / calc(var(--share) * 0.4)); font-weight: 600; }
td.wrong { background: rgb(var(--wrong) / calc(0.15 + var(--share) * 0.5)); }
td.none { color: var(--soft); opacity: 0.55; }
td.sum { text-align: right; white-space: nowrap; }
.digits { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: 0.75rem; margin-top: 0.75rem; }
.digits li { padding: 0.6rem; text-align: center; line-height: 1.35; }
.digits svg { display: block; width: 100%; height: auto; margin-bottom: 0.4rem; }
.digits span { display: block; font-weight: 600; }
.digits span small { font-weight: 400; }
@media (max-width: 40rem) { th, td { min-width: 2.25rem; padding: 0 0.25rem; } table { border-spacing: 2px; } }
@media print { main { padding: 0; } section { break-inside: avoid; } }
`;
