import { checkOptions } from '../../core/errors.js';
import type { Tensor } from '../../core/tensor.js';
import { type ClassOptions, classCounts, classOptions, countsOf } from './class-counts.js';
import { type Metric, ratio } from './metric.js';

export interface MeanIoUOptions extends ClassOptions {
  /** Axis of the classes in the scores. Default 1, as in `crossEntropyLoss`. */
  classAxis?: number;
}

/**
 * Mean intersection over union (Jaccard index) of segmentations: the mean over classes of `tp / (tp + fp + fn)`, all elements of all
 * batches taken together.
 *
 * A class that is neither predicted nor among the labels is left out of the mean, as in torchmetrics and MMSegmentation; elements that
 * do not count do not count as predictions either. 0 without labels that count. Of scores that tie the first class is predicted.
 *
 * Takes C numbers of memory per element. Its sums are `[3 C]`.
 *
 * Source: Fully Convolutional Networks for Semantic Segmentation (arXiv:1411.4038), "mean IU".
 *
 * @param predictions scores of classes `[N, C, ...]`, float, logits or probabilities; or predicted classes `[...]`, int32, with
 *   `numClasses`
 * @param labels `[N, ...]` int32, each in `[0, C)` or `ignoreIndex`; like predicted classes they are checked before every run where they are
 *   an argument of the compiled function
 * @example
 * ```ts
 * import { type Tensor } from 'tracegrad';
 * import { meanIoU } from 'tracegrad/train';
 *
 * // logits [N, C, H, W], labels [N, H, W]
 * const ofCityscapes = (logits: Tensor, labels: Tensor) => meanIoU(logits, labels, { ignoreIndex: 255 });
 * ```
 */
export function meanIoU(predictions: Tensor, labels: Tensor, options: MeanIoUOptions = {}): Metric {
  const fn = 'meanIoU';
  checkOptions(fn, options, classOptions);
  return {
    sums: classCounts(fn, predictions, labels, options, 1).sums,
    compute: (sums) => {
      const present = countsOf(sums).filter(({ predicted, labelled }) => predicted + labelled > 0);
      const ious = present.map(({ both, predicted, labelled }) => both / (predicted + labelled - both));
      return ratio(
        ious.reduce((a, b) => a + b, 0),
        ious.length,
      );
    },
  };
}
