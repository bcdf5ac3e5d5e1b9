// What the console knows. One stream of overviews serves all pages of it, and what it said lately is kept for the
// lines; everything else is asked for where it is shown. It uses what is for operators alone: /ops.

import { change, follow, read, token } from '../assets/api.js';
import { useAsked, useEffect, useRef, useState, useToken } from '../assets/page.js';

// Ten minutes, at one overview a second.
const KEPT = 600;
// What moves is asked for at most so often, and what does not at least so often.
const AGAIN_MS = 1000;
const ANYWAY_MS = 10_000;

const shared = { overview: null, history: [], gone: new Map(), state: 'waiting', problem: null, stop: null, watching: new Set(), bearer: '' };

function tell() {
  for (const told of shared.watching) told();
}

function heard(overview) {
  const known = new Set(overview.replicas.map(({ replica }) => replica));
  for (const { replica } of shared.overview?.replicas ?? []) if (!known.has(replica)) shared.gone.set(replica, overview.time);
  for (const replica of known) shared.gone.delete(replica);
  shared.overview = overview;
  shared.history.push(overview);
  if (shared.history.length > KEPT) shared.history.splice(0, shared.history.length - KEPT);
  shared.problem = null;
  tell();
}

function begin() {
  shared.stop?.();
  shared.bearer = token.get();
  shared.stop = follow('ops/stream', {
    overview: heard,
    state: (state) => { shared.state = state; tell(); },
    problem: (problem) => { shared.problem = problem; tell(); },
  });
}

/** The latest overview, what came before it, and how the stream is. */
export function useOverview() {
  const bearer = useToken();
  const [, redraw] = useState(0);
  useEffect(() => {
    const told = () => redraw((count) => count + 1);
    shared.watching.add(told);
    if (!shared.stop || shared.bearer !== bearer) begin();
    return () => shared.watching.delete(told);
  }, [bearer]);
  return shared;
}

/** Asks /ops for something. */
export const useOps = (path, inputs = []) => useAsked((signal) => (path ? read(`ops/${path}`, { signal }) : Promise.resolve(undefined)), [path, ...inputs]);

/** Does something after a while, or as soon as somebody looks at the page after that; returns how to stop it. */
function later(act, afterMs) {
  const look = () => {
    if (document.hidden) return;
    document.removeEventListener('visibilitychange', look);
    act();
  };
  const timer = setTimeout(() => { document.addEventListener('visibilitychange', look); look(); }, afterMs);
  return () => { clearTimeout(timer); document.removeEventListener('visibilitychange', look); };
}

/** Asks again every so often while `goes` says so of the answer. */
export function useOpsWhile(path, goes, everyMs) {
  const [round, next] = useState(0);
  const [value, problem, again] = useOps(path, [round]);
  useEffect(() => (value && !goes(value) ? undefined : later(() => next((count) => count + 1), everyMs)), [value, problem]);
  return [value, problem, again];
}

/**
 * Asks again when what the overview tells of it, `mark`, has changed, and now and then all the same: most of the time nothing
 * moves, and then nothing is asked.
 */
export function useOpsMoving(path, mark) {
  const [round, next] = useState(0);
  const [value, problem, again] = useOps(path, [round]);
  const asked = useRef({ at: 0, mark });
  const moved = asked.current.mark !== mark;
  useEffect(() => later(() => {
    asked.current = { at: Date.now(), mark };
    next((count) => count + 1);
  }, Math.max(0, asked.current.at + (moved ? AGAIN_MS : ANYWAY_MS) - Date.now())), [value, problem, moved]);
  useEffect(() => { asked.current = { ...asked.current, at: Date.now() }; }, []);
  return [value, problem, again];
}

/** Returns why the reader may change nothing, as far as their token says. */
export function useForbidden(text) {
  const bearer = useToken();
  const claims = bearer && token.claims();
  if (!claims) return null;
  const scopes = `${claims.scope ?? ''} ${Array.isArray(claims.scp) ? claims.scp.join(' ') : claims.scp ?? ''}`.split(/\s+/);
  return scopes.includes('ops:write') ? null : text;
}

/** Begins a job, and returns it. */
export const begun = async (path, body) => (await change('POST', `ops/${path}`, body)).answer;
/** Changes an instance of a process. */
export const changed = (process, id, verb, body) => change('POST', `ops/processes/${encodeURIComponent(process)}/${encodeURIComponent(id)}/${verb}`, body);
export const cancelled = async (id) => (await change('DELETE', `ops/jobs/${encodeURIComponent(id)}`)).answer;

/** The names of all aggregates, as far as views and processes tell them. */
export function useAggregates() {
  const [views] = useOps('views');
  const { overview } = useOverview();
  const named = new Set((views?.items ?? []).flatMap((view) => view.aggregates ?? []));
  const processes = (overview?.processes ?? []).map(({ process }) => process);
  /** The views that follow an aggregate. */
  const following = (aggregate) => (views?.items ?? []).filter((view) => view.aggregates?.includes(aggregate)).map((view) => view.view);
  return { aggregates: [...named].sort(), processes, following, views: (overview?.views ?? []).map(({ view }) => view), known: Boolean(views && overview) };
}

/** Where two values differ: `[pointer, before, after]` of each leaf, at most so many. */
export function differences(before, after, most = 200) {
  const found = [];
  const walk = (one, other, path) => {
    if (found.length >= most || JSON.stringify(one) === JSON.stringify(other)) return;
    const inner = (value) => value !== null && typeof value === 'object' && !JSON.isRawJSON?.(value) && Object.keys(value).length > 0;
    if (inner(one) || inner(other)) {
      const [left, right] = [inner(one) ? one : {}, inner(other) ? other : {}];
      if ((inner(one) || one === undefined || one === null || typeof one === 'object') && (inner(other) || other === undefined || other === null || typeof other === 'object')) {
        for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) walk(left[key], right[key], `${path}/${key.replace(/~/g, '~0').replace(/\//g, '~1')}`);
        return;
      }
    }
    found.push([path || '/', one, other]);
  };
  walk(before, after, '');
  return found;
}
