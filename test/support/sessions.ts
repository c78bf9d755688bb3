import type { Backend } from '../../src/index.js';
import type { OrtBackend } from '../../src/runtime/backend.js';

/** Counts of sessions of a backend. */
export interface SessionCount {
  created: number;
  released: number;
}

/** Counts the sessions that a backend creates and releases from here on. */
export function countSessions(backend: Backend): SessionCount {
  const count: SessionCount = { created: 0, released: 0 };
  const inner = backend as OrtBackend;
  const create = inner.createSession.bind(inner);
  inner.createSession = async (request) => {
    const session = await create(request);
    count.created++;
    const release = session.release.bind(session);
    session.release = async () => {
      count.released++;
      await release();
    };
    return session;
  };
  return count;
}
