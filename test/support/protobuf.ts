/** Fields of a protobuf message by number, in order: integers as bigint, everything else as bytes. */
type Fields = Map<number, (bigint | Uint8Array)[]>;

function fieldsOf(bytes: Uint8Array): Fields {
  const fields: Fields = new Map();
  let at = 0;
  const take = (length: number) => {
    if (at + length > bytes.length) throw new RangeError('protobuf: the message ends in the middle of a field');
    at += length;
    return bytes.subarray(at - length, at);
  };
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const [byte] = take(1) as unknown as [number];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asIntN(64, value);
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const wire = key & 7;
    if (wire !== 0 && wire !== 2 && wire !== 5) throw new RangeError(`protobuf: wire type ${wire}`);
    const value = wire === 0 ? varint() : take(wire === 5 ? 4 : Number(varint()));
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value]);
  }
  return fields;
}

const text = new TextDecoder('utf-8', { fatal: true });
const messages = (fields: Fields, id: number) => (fields.get(id) ?? []) as Uint8Array[];
const strings = (fields: Fields, id: number) => messages(fields, id).map((bytes) => text.decode(bytes));
const numbers = (fields: Fields, id: number) => ((fields.get(id) ?? []) as bigint[]).map(Number);
const message = (fields: Fields, id: number) => fieldsOf(messages(fields, id)[0] ?? new Uint8Array());

function attribute(bytes: Uint8Array) {
  const fields = fieldsOf(bytes);
  const float = messages(fields, 2)[0];
  return {
    name: strings(fields, 1)[0],
    type: numbers(fields, 20)[0],
    float: float && new DataView(float.buffer, float.byteOffset).getFloat32(0, true),
    int: numbers(fields, 3)[0],
    string: strings(fields, 4)[0],
    ints: numbers(fields, 8),
  };
}

function node(bytes: Uint8Array) {
  const fields = fieldsOf(bytes);
  return {
    name: strings(fields, 3)[0],
    type: strings(fields, 4)[0],
    inputs: strings(fields, 1),
    outputs: strings(fields, 2),
    attributes: messages(fields, 5).map(attribute),
  };
}

function initializer(bytes: Uint8Array) {
  const fields = fieldsOf(bytes);
  return {
    name: strings(fields, 8)[0],
    dims: numbers(fields, 1),
    type: numbers(fields, 2)[0],
    data: messages(fields, 9)[0] ?? new Uint8Array(),
  };
}

function value(bytes: Uint8Array) {
  const fields = fieldsOf(bytes);
  const tensor = message(message(fields, 2), 1);
  const dims = messages(message(tensor, 2), 1).map((dim): number | string | undefined => {
    const d = fieldsOf(dim);
    return numbers(d, 1)[0] ?? strings(d, 2)[0];
  });
  return { name: strings(fields, 1)[0], type: numbers(tensor, 1)[0], dims };
}

/** An ONNX model, read without any of the code that writes them. Field numbers are those of onnx.proto. */
export function readModel(bytes: Uint8Array) {
  const model = fieldsOf(bytes);
  const graph = message(model, 7);
  return {
    irVersion: numbers(model, 1)[0],
    producer: strings(model, 2)[0],
    opsets: messages(model, 8).map((opset) => ({ domain: strings(fieldsOf(opset), 1)[0] ?? '', version: numbers(fieldsOf(opset), 2)[0] })),
    name: strings(graph, 2)[0],
    nodes: messages(graph, 1).map(node),
    initializers: messages(graph, 5).map(initializer),
    inputs: messages(graph, 11).map(value),
    outputs: messages(graph, 12).map(value),
  };
}
