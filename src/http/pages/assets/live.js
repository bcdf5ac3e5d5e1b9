// Documents that are followed live, as state of a page.

import { follow } from './api.js';
import { useEffect, useState } from './vendor/hooks.js';
import { useToken } from './page.js';

// After this long a list that says nothing of its end is shown as far as it is there.
const PATIENCE_MS = 600;

/**
 * Follows a list or a document of a view. `documents` are those there are, by id; `ready` is true once all that
 * were there at the beginning have come; changes that come together are drawn together. A `path` of `null` is nothing.
 */
export function useLive(path, since) {
  const bearer = useToken();
  const [seen, show] = useState({ of: null, documents: new Map(), ready: false, state: 'waiting', problem: null });
  useEffect(() => {
    if (!path) return undefined;
    let next = { of: path, documents: new Map(), ready: false, state: 'waiting', problem: null };
    let frame = 0;
    let stopped = false;
    const change = (what) => {
      next = { ...next, ...what };
      frame ||= setTimeout(() => { frame = 0; if (!stopped) show({ ...next, documents: new Map(next.documents) }); }, 16);
    };
    const put = (item) => { next.documents.set(item.id, item); change({}); };
    const drop = ({ id }) => { next.documents.delete(id); change({}); };
    const stop = follow(path, {
      put, delete: drop, leave: drop,
      reset: () => change({ documents: new Map() }),
      mark: () => change({ ready: true }),
      state: (state) => {
        change(state === 'live' ? { state, problem: null } : { state });
        if (state === 'live') setTimeout(() => change({ ready: true }), PATIENCE_MS);
      },
      problem: (problem) => change({ problem, ready: true }),
    }, { since });
    return () => { stopped = true; stop(); clearTimeout(frame); };
  }, [path, since, bearer]);
  return seen.of === path ? seen : { of: path, documents: new Map(), ready: false, state: 'waiting', problem: null };
}
