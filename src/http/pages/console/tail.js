// The tail of the log, live: what is stored, as it is stored.

import { follow, read } from '../assets/api.js';
import { Failure, Time, go, html, say, told, useEffect, useMemo, useRef, useState, useTitle, useToken } from '../assets/page.js';
import { language } from '../assets/text.js';
import { before as putBefore, behind, counted } from './blocks.js';
import { AggregateLink, CommandLink, Json, Page } from './parts.js';
import { useAggregates } from './data.js';
import { t } from './texts.js';

// What is shown at once; older commits are asked for where somebody wants them.
const SHOWN = 10_000;
const OLDER = 200;
// What is kept of what comes while the page is held.
const WAITING = 1000;
const DRAW_MS = 250;

export function Tail({ aggregate, id, type, before }) {
  const bearer = useToken();
  const [state, set] = useState({ blocks: [], state: 'waiting', problem: null, previous: null, ready: false });
  const [held, hold] = useState(Boolean(before));
  const waiting = useRef([]);
  const [waits, count] = useState(0);
  const { aggregates, processes } = useAggregates();
  const filters = Object.entries({ aggregate, id, type }).filter(([, value]) => value);
  const search = new URLSearchParams(filters).toString();
  useTitle(t('tail'), t('console'), 'log');
  const holding = useRef(held);
  holding.current = held;
  useEffect(() => {
    let stopped = false;
    let timer = 0;
    waiting.current = [];
    count(0);
    set((was) => ({ ...was, blocks: [], ready: false, problem: null }));
    // What comes in between two drawings is drawn at once: a busy log does not make a busy page.
    const draw = () => {
      timer = 0;
      if (stopped) return;
      count(waiting.current.length);
      if (holding.current) return;
      const news = waiting.current.splice(0).reverse();
      count(0);
      set((was) => ({ ...was, blocks: putBefore(was.blocks, news, SHOWN) }));
    };
    read(`ops/events?${search}&limit=50${before ? `&before=${before}` : ''}`).then(
      (page) => { if (!stopped) set((was) => ({ ...was, blocks: behind(was.blocks, [...page.items].reverse()), previous: page.previous, ready: true })); },
      (problem) => { if (!stopped) set((was) => ({ ...was, problem, ready: true })); },
    );
    const stop = follow(`ops/events/stream?${search}`, {
      commit: (commit) => {
        waiting.current.push(commit);
        if (waiting.current.length > WAITING) waiting.current.splice(0, waiting.current.length - WAITING);
        timer ||= setTimeout(draw, DRAW_MS);
      },
      state: (live) => { if (!stopped) set((was) => ({ ...was, state: live, problem: live === 'live' ? null : was.problem })); },
      problem: (problem) => { if (!stopped) set((was) => ({ ...was, problem })); },
    });
    return () => { stopped = true; stop(); clearTimeout(timer); };
  }, [search, before, bearer]);
  const goOn = () => {
    hold(false);
    if (before) { go(['log'], { aggregate, id, type }); return; }
    const news = waiting.current.splice(0).reverse();
    count(0);
    set((was) => ({ ...was, blocks: putBefore(was.blocks, news, SHOWN) }));
  };
  const shown = counted(state.blocks);
  const older = async () => {
    try {
      const page = await read(`ops/events?${search}&limit=${OLDER}&before=${state.previous}`);
      set((was) => ({ ...was, blocks: behind(was.blocks, [...page.items].reverse()), previous: page.previous }));
    } catch (problem) { say(told(problem), 'bad'); }
  };
  // A commit never changes: what was drawn of it once is drawn again as it is, which costs nothing.
  const drawn = useMemo(() => new WeakMap(), [language()]);
  const once = (of, draw) => {
    if (!drawn.has(of)) drawn.set(of, draw());
    return drawn.get(of);
  };
  const row = (commit) => once(commit, () => html`<${Commit} key=${commit.position} commit=${commit} />`);
  const rows = (block) => once(block, () => html`<ol key=${block.key} class="tail">${block.rows.map(row)}</ol>`);
  const filter = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    go(['log'], { aggregate: given.aggregate, id: given.id.trim(), type: given.type.trim() });
  };
  return html`<${Page} title=${t('tail')} beside=${html`<span class=${`chip ${state.state === 'live' ? 'good' : 'warn'}`}>${state.state === 'live' ? t('live') : t('waiting')}</span>`}>
    <p class="quiet">${t('tail_lead')}</p>
    <form class="filters panel" onSubmit=${filter}>
      <label>${t('aggregate')}<select name="aggregate" key=${`a${aggregate}${aggregates.length}`}><option value=""></option>${[...aggregates, ...processes].map((name) => html`<option key=${name} value=${name} selected=${name === aggregate}>${name}</option>`)}</select></label>
      <label>${t('id')}<input name="id" maxlength="64" key=${`i${id}`} defaultValue=${id ?? ''} spellcheck=${false} autocomplete="off" /></label>
      <label>${t('type')}<input name="type" maxlength="128" key=${`t${type}`} defaultValue=${type ?? ''} placeholder="order.placed" spellcheck=${false} autocomplete="off" /></label>
      <button class="main">${t('apply')}</button>
      ${held ? html`<button type="button" onClick=${goOn}>${t('go_on')}${waits > 0 && ` (${t('new_ones', waits)})`}</button>` : html`<button type="button" onClick=${() => hold(true)}>${t('pause')}</button>`}
    </form>
    <${Failure} problem=${state.problem} />
    ${!state.ready && !shown && html`<p class="empty" role="status">${t('loading')}</p>`}
    ${state.ready && !shown && !state.problem && html`<p class="empty">${t('tail_none')}</p>`}
    <div class="tails">${state.blocks.map(rows)}</div>
    ${state.previous && shown < SHOWN && html`<button type="button" onClick=${older}>${t('older')}</button>`}
  </${Page}>`;
}

function Commit({ commit }) {
  return html`<li><span class="mono quiet">${commit.position}</span> <${Time} at=${commit.time} style="clock" /> <${AggregateLink} aggregate=${commit.aggregate} id=${commit.id} />
    ${commit.fault && html`<span class="chip bad">${commit.fault}</span>`}
    ${(commit.events ?? []).map((event) => html`<span key=${event.version} class="said-event"><code>${event.type}</code> <span class="quiet small">#${event.version} <${CommandLink} id=${event.command_id} at=${{ aggregate: commit.aggregate, of: commit.id }} /></span> <${Json} value=${event.data} /></span>`)}</li>`;
}
