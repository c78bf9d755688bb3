import { afterAll } from 'vitest';
import type { Backend } from '../../src/index.js';
import { createBackend } from '../../src/node.js';
import { webgpuBackend } from './devices.js';

/** What `describe.each` takes to run tests on every device that is there. The backends are closed after the file. */
export async function testDevices(): Promise<readonly (readonly [device: string, backend: Backend])[]> {
  const backends = [await createBackend({ device: 'cpu' }), await webgpuBackend()].flatMap((backend) => backend ?? []);
  afterAll(async () => {
    for (const backend of backends) await backend.close();
  });
  return backends.map((backend) => [backend.device, backend]);
}
