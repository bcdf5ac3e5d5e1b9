// What pages are made with: preact by templates, places in the address behind `#`, and the parts that every
// page has: its language, its token, its announcements, its questions.

import { h, render, Fragment } from './vendor/preact.js';
import htm from './vendor/htm.js';
import { useEffect, useLayoutEffect, useState, useRef, useCallback, useMemo, useErrorBoundary } from './vendor/hooks.js';
import { token } from './api.js';
import { LANGUAGES, language, setLanguage, texts, watchLanguage, when } from './text.js';

export const html = htm.bind(h);
export { Fragment, render, useEffect, useState, useRef, useCallback, useMemo, useErrorBoundary };

const t = texts({
  en: {
    language: 'Language', access: 'Access', token: 'Access token', use: 'Use it', forget: 'Forget it', close: 'Close', back: 'Back',
    token_why: 'Paste a token (JWT). It stays in this tab and is sent with each request.',
    token_of: (name) => `A token of ${name} is used.`, token_none: 'No token is used.',
    failed: 'This page has a defect', again: 'Try again',
    denied: 'That needs a token with more rights.', unauthenticated: 'That needs a token: give one under “Access”.',
    unreachable: 'The service does not answer.',
  },
  ko: {
    language: '언어', access: '접근 권한', token: '접근 토큰', use: '사용', forget: '지우기', close: '닫기', back: '뒤로',
    token_why: '토큰(JWT)을 붙여 넣으세요. 이 탭에만 남고 요청마다 함께 보냅니다.',
    token_of: (name) => `${name}의 토큰을 쓰고 있습니다.`, token_none: '쓰는 토큰이 없습니다.',
    failed: '이 화면에 결함이 있습니다', again: '다시 시도',
    denied: '더 많은 권한을 가진 토큰이 필요합니다.', unauthenticated: '토큰이 필요합니다. “접근 권한”에서 넣어 주세요.',
    unreachable: '서비스가 응답하지 않습니다.',
  },
});

/** The place that the address names: `#/orders/o-1?tab=x`. */
export function place() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter(Boolean).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { parts, query: new URLSearchParams(query) };
}

/** An address of a place. What is `null`, `undefined` or empty is left out of the query. */
export function to(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== '');
  const search = given.length ? `?${new URLSearchParams(given)}` : '';
  return `#/${parts.map(encodeURIComponent).join('/')}${search}`;
}

export const go = (parts, query) => { location.hash = to(parts, query); };
/** Changes the address without another step to go back by. */
export const replace = (parts, query) => {
  history.replaceState(null, '', to(parts, query));
  window.dispatchEvent(new HashChangeEvent('hashchange'));
};

/** Leads past the head of a page. The address stays: what stands behind its `#` is a place. */
export function skip(event) {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

function useTold(watch) {
  const [, tell] = useState(0);
  // Before anything else can happen to the page, or what is told meanwhile is not heard.
  useLayoutEffect(() => watch(() => tell((count) => count + 1)), []);
}
export function usePlace() {
  useTold((tell) => { window.addEventListener('hashchange', tell); return () => window.removeEventListener('hashchange', tell); });
  return place();
}
export const useLanguage = () => { useTold(watchLanguage); return language(); };
export const useToken = () => { useTold((tell) => token.watch(tell)); return token.get(); };

/** The place that the page has led to last. */
let led;
/** Sets the title, and leads who hears the page, or goes by keyboard, to its heading when the place has changed. */
export function useTitle(title, site, key) {
  useEffect(() => { document.title = title ? `${title} · ${site}` : site; }, [title, site]);
  useLayoutEffect(() => {
    const before = led;
    led = key;
    if (before === undefined || before === key) return;
    const heading = document.querySelector('main h1');
    heading?.setAttribute('tabindex', '-1');
    heading?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [key]);
}

/** What comes of something that takes its time, made anew when `inputs` change: `[value, problem, again]`. */
export function useAsked(ask, inputs) {
  const [state, set] = useState({});
  const [round, again] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    ask(stop.signal).then(
      (value) => { if (!stop.signal.aborted) set({ value }); },
      (problem) => { if (!stop.signal.aborted) set((before) => ({ value: before.value, problem })); },
    );
    return () => stop.abort();
  }, [...inputs, round, useToken()]);
  return [state.value, state.problem, () => again((count) => count + 1)];
}

/** Says what went wrong, in words that say what to do. */
export function told(problem) {
  if (problem.status === 401) return t('unauthenticated');
  if (problem.status === 403) return `${t('denied')} ${problem.detail ?? ''}`;
  if (problem.status === 0) return t('unreachable');
  return problem.detail || problem.message;
}

export function Failure({ problem, again }) {
  if (!problem) return null;
  return html`<div class="note bad" role="alert"><p>${told(problem)}</p>
    ${again && html`<button type="button" onClick=${again}>${t('again')}</button>`}</div>`;
}

/** Tells who hears the page, and shows for a while, what has happened. */
let announce = () => {};
export const say = (text, kind = 'good') => announce({ text, kind });
export function Announcements() {
  const [said, set] = useState([]);
  useEffect(() => {
    let next = 0;
    announce = ({ text, kind }) => {
      const id = next += 1;
      set((all) => [...all.slice(-2), { id, text, kind }]);
      setTimeout(() => set((all) => all.filter((one) => one.id !== id)), 8000);
    };
  }, []);
  return html`<div class="said" role="status" aria-live="polite">
    ${said.map((one) => html`<p key=${one.id} class=${`note ${one.kind}`}>${one.text}</p>`)}</div>`;
}

/**
 * A window before the page, by the browser's own element: it holds the focus, and Escape closes it. It is open as long as
 * it is there. Each opening has an element, and so a `key`, of its own: a browser tells after a while that one was closed,
 * and by then the next may be open.
 */
export function Window({ title, close, children }) {
  const element = useRef();
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog.showModal();
    // An element that goes while it is open does not give the focus back.
    return () => dialog.close();
  }, []);
  return html`<dialog ref=${element} aria-label=${title} onClose=${close} onClick=${(event) => { if (event.target === element.current) close(); }}>
    <div class="inside"><h2>${title}</h2>${children}</div></dialog>`;
}

/** What a window is open with, if it is: `[opened, open, close]`. `opened.key` is the window's. */
function useOpened() {
  const [opened, set] = useState(null);
  const open = (of) => set({ of, key: openings += 1 });
  const close = () => set((now) => (now === opened ? null : now));
  return [opened, open, close];
}
let openings = 0;

/** Asks once before something is done: `ask({ title, text, action, go })`. With `reason`, the name of a field, it asks for one, which `go` is given. */
let question = () => {};
export const ask = (asked) => question(asked);
export function Questions({ cancel }) {
  const [opened, open, close] = useOpened();
  question = open;
  if (!opened) return null;
  const asked = opened.of;
  const done = (event) => {
    event.preventDefault();
    const reason = event.currentTarget.elements.reason?.value.trim();
    if (asked.reason && !reason) return;
    close();
    asked.go(reason);
  };
  return html`<${Window} key=${opened.key} title=${asked.title} close=${close}><form onSubmit=${done}>
    <p>${asked.text}</p>
    ${asked.reason && html`<label>${asked.reason}<input name="reason" required maxlength="160" autocomplete="off" /></label>`}
    <p class="row"><button class=${`main ${asked.danger ? 'danger' : ''}`}>${asked.action}</button>
    <button type="button" onClick=${close}>${cancel ?? t('close')}</button></p></form></${Window}>`;
}

export function LanguageSwitch() {
  const now = useLanguage();
  const other = Object.keys(LANGUAGES).find((tag) => tag !== now);
  return html`<button type="button" class="plain" lang=${other} onClick=${() => setLanguage(other)}>${LANGUAGES[other]}</button>`;
}

/** Where a token is pasted and forgotten. */
export function Access({ children }) {
  const [opened, open, close] = useOpened();
  const now = useToken();
  const field = useRef();
  const claims = now && token.claims();
  const use = (event) => {
    event.preventDefault();
    const given = field.current.value.trim().replace(/^Bearer\s+/i, '');
    if (!given) return;
    token.set(given);
    close();
  };
  return html`<button type="button" class="plain" onClick=${() => open()}>${children ?? t('access')}</button>
    ${opened && html`<${Window} key=${opened.key} title=${t('access')} close=${close}>
      <p>${now ? t('token_of', claims?.sub ?? '?') : t('token_none')}</p>
      ${claims?.scope && html`<p class="quiet"><code>${claims.scope}</code></p>`}
      <form onSubmit=${use}>
        <label>${t('token')}<textarea ref=${field} rows="4" spellcheck=${false} autocomplete="off" aria-describedby="token-why"></textarea></label>
        <p class="quiet" id="token-why">${t('token_why')}</p>
        <p class="row"><button class="main">${t('use')}</button>
          ${now && html`<button type="button" onClick=${() => { token.set(''); close(); }}>${t('forget')}</button>`}
          <button type="button" onClick=${close}>${t('close')}</button></p>
      </form></${Window}>`}`;
}

/** A time in the reader's zone, with the UTC where it is pointed at. */
export function Time({ at, style }) {
  if (!at) return '–';
  return html`<time dateTime=${at} title=${new Date(at).toISOString().replace('T', ' ').replace('Z', ' UTC')}>${when(at, style)}</time>`;
}

/** Holds a defect of one part back from the rest of the page. */
export function Whole({ children }) {
  const [error, reset] = useErrorBoundary((caught) => console.error(caught));
  if (error) return html`<main id="main" tabindex="-1" class="page"><div class="note bad" role="alert"><p>${t('failed')}: ${String(error.message ?? error)}</p>
    <button type="button" onClick=${reset}>${t('again')}</button></div></main>`;
  return children;
}
