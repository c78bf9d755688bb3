import type { Attribute } from '../core/tensor.js';
import { type Initializer, type OnnxGraph, type OnnxNode, onnxTypes, type ValueInfo } from './graph.js';

/** Opset and IR version of all graphs: what ONNX Runtime 1.30 and older ones, and other runtimes, read. */
export const OPSET = 20;
const IR_VERSION = 9;

const text = /* @__PURE__ */ new TextEncoder();

/** A protobuf message being written. */
class Message {
  private bytes = new Uint8Array(256);
  private length = 0;

  private reserve(count: number): void {
    if (this.length + count <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.bytes.length, this.length + count));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  private varint(value: bigint): void {
    this.reserve(10);
    let rest = BigInt.asUintN(64, value);
    while (rest > 127n) {
      this.bytes[this.length++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.bytes[this.length++] = Number(rest);
  }

  int(field: number, value: number): this {
    this.varint(BigInt(field << 3));
    this.varint(BigInt(value));
    return this;
  }

  float(field: number, value: number): this {
    this.varint(BigInt((field << 3) | 5));
    this.reserve(4);
    new DataView(this.bytes.buffer).setFloat32(this.length, value, true);
    this.length += 4;
    return this;
  }

  data(field: number, value: Uint8Array): this {
    this.varint(BigInt((field << 3) | 2));
    this.varint(BigInt(value.length));
    this.reserve(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
    return this;
  }

  string(field: number, value: string): this {
    return this.data(field, text.encode(value));
  }

  message(field: number, value: Message): this {
    return this.data(field, value.finish());
  }

  finish(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

function attribute(name: string, value: Attribute): Message {
  const message = new Message().string(1, name);
  if (typeof value === 'number') return message.int(3, value).int(20, 2);
  if (typeof value === 'string') return message.string(4, value).int(20, 3);
  if ('float' in value) return message.float(2, value.float).int(20, 1);
  for (const item of value) message.int(8, item);
  return message.int(20, 7);
}

function node({ type, inputs, outputs, attributes }: OnnxNode, index: number): Message {
  const message = new Message();
  for (const name of inputs) message.string(1, name);
  for (const name of outputs) message.string(2, name);
  message.string(3, `${type}_${index}`).string(4, type);
  for (const [name, value] of Object.entries(attributes)) message.message(5, attribute(name, value));
  return message;
}

function initializer(name: string, { dtype, shape, data }: Initializer): Message {
  const message = new Message();
  for (const size of shape) message.int(1, size);
  return message
    .int(2, onnxTypes[dtype])
    .string(8, name)
    .data(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function valueInfo({ name, dtype, shape }: ValueInfo): Message {
  const dimensions = new Message();
  for (const size of shape) {
    dimensions.message(1, typeof size === 'number' ? new Message().int(1, size) : new Message().string(2, size));
  }
  const tensor = new Message().int(1, onnxTypes[dtype]).message(2, dimensions);
  return new Message().string(1, name).message(2, new Message().message(1, tensor));
}

/** The bytes of an ONNX model. */
export function encode(graph: OnnxGraph): Uint8Array {
  const body = new Message();
  graph.nodes.forEach((item, index) => {
    body.message(1, node(item, index));
  });
  body.string(2, 'tracegrad');
  for (const [name, value] of graph.initializers) body.message(5, initializer(name, value));
  for (const info of graph.inputs) body.message(11, valueInfo(info));
  for (const info of graph.outputs) body.message(12, valueInfo(info));
  const opset = new Message().string(1, '').int(2, OPSET);
  return new Message().int(1, IR_VERSION).string(2, 'tracegrad').message(7, body).message(8, opset).finish().slice();
}
