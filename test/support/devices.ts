import { existsSync } from 'node:fs';
import { type Backend, createBackend } from '../../src/node.js';

/** A WebGPU device in software, as Debian's Chromium brings it. */
const SOFTWARE_DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';

/**
 * A WebGPU backend; on machines without a GPU the software one. Without any, WebGPU tests are skipped, with a line that
 * says so, but in CI that is an error. To be called once per test file and closed after it.
 */
export async function webgpuBackend(): Promise<Backend | undefined> {
  // Read by the Vulkan loader when onnxruntime-node is first imported, which createBackend does.
  if (process.env.VK_ICD_FILENAMES === undefined && existsSync(SOFTWARE_DRIVER)) process.env.VK_ICD_FILENAMES = SOFTWARE_DRIVER;
  try {
    return await createBackend({ device: 'webgpu' });
  } catch (cause) {
    if (process.env.CI) throw cause;
    console.warn(`WebGPU tests are skipped: ${(cause as Error).message}`);
    return undefined;
  }
}
