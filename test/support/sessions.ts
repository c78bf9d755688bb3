import type { Backend } from '../../src/index.js';
import type { OrtBackend } from '../../src/runtime/backend.js';
import type { OrtSession, OrtTensor } from '../../src/runtime/ort.js';

/** Does something with every session that a backend creates from here on. */
function onCreate(backend: Backend, visit: (session: OrtSession) => void): void {
  const inner = backend as OrtBackend;
  const create = inner.createSession.bind(inner);
  inner.createSession = async (request) => {
    const session = await create(request);
    visit(session);
    return session;
  };
}

/** Counts of sessions of a backend. */
export interface SessionCount {
  created: number;
  released: number;
}

/** Counts the sessions that a backend creates and releases from here on. */
export function countSessions(backend: Backend): SessionCount {
  const count: SessionCount = { created: 0, released: 0 };
  onCreate(backend, (session) => {
    count.created++;
    const release = session.release.bind(session);
    session.release = async () => {
      count.released++;
      await release();
    };
  });
  return count;
}

/** The GPU tensors that sessions of a backend, created from here on, have returned and that were not disposed. */
export function trackGpuTensors(backend: Backend): Set<OrtTensor> {
  const live = new Set<OrtTensor>();
  onCreate(backend, (session) => {
    const run = session.run.bind(session);
    session.run = async (feeds, fetches) => {
      const results = await run(feeds, fetches);
      for (const tensor of Object.values(results)) {
        if (tensor.location === 'cpu') continue;
        live.add(tensor);
        const dispose = tensor.dispose.bind(tensor);
        tensor.dispose = () => {
          live.delete(tensor);
          dispose();
        };
      }
      return results;
    };
  });
  return live;
}

/** Calls `before` ahead of every run of sessions that a backend creates from here on; if it throws, the run fails. */
export function interceptRuns(backend: Backend, before: () => void): void {
  onCreate(backend, (session) => {
    const run = session.run.bind(session);
    session.run = async (feeds, fetches) => {
      before();
      return run(feeds, fetches);
    };
  });
}
