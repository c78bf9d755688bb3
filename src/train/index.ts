export { createTrainer, type LossContext, type LossResult, type Report, type Trainer, type TrainerOptions } from './trainer.js';
