interface Data<T> {
  shape: number[];
  data: T;
}
type Floats = Data<Float32Array>;
type Ints = Data<Int32Array>;
export function mlpSpec(
  batch: number,
  hidden: number,
  seed: number,
): { lr: number; x: Floats; y: Ints; params: Record<'w1' | 'b1' | 'w2' | 'b2', Floats> };
export function cnnSpec(): {
  lr: number;
  b1: number;
  b2: number;
  eps: number;
  x: Floats;
  y: Ints;
  params: Record<'w1' | 'b1' | 'w2' | 'b2' | 'fc' | 'fb', Floats>;
};
export function transformerSpec(): {
  V: number;
  D: number;
  H: number;
  L: number;
  T: number;
  B: number;
  lr: number;
  b1: number;
  b2: number;
  eps: number;
  wd: number;
  x: Ints;
  y: Ints;
  params: Record<string, Floats>;
};
