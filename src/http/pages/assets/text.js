// The language of a page: the reader's choice, or else that of the browser. Texts are functions or strings by
// name, in English and Korean; a page without one language's text shows the English one.

const CHOICE = 'headwater.language';
export const LANGUAGES = { en: 'English', ko: '한국어' };
const told = new Set();

function wanted() {
  const chosen = localStorage.getItem(CHOICE);
  if (chosen in LANGUAGES) return chosen;
  const known = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES);
  return known ?? 'en';
}

let current = wanted();
document.documentElement.lang = current;

export const language = () => current;
export const watchLanguage = (tell) => { told.add(tell); return () => told.delete(tell); };

export function setLanguage(tag) {
  localStorage.setItem(CHOICE, tag);
  current = tag;
  document.documentElement.lang = tag;
  for (const tell of told) tell();
}

/** Returns what looks a text up by its name, with what is put into it. */
export function texts(all) {
  return (name, ...values) => {
    const text = all[current]?.[name] ?? all.en[name] ?? name;
    return typeof text === 'function' ? text(...values) : text;
  };
}

const formats = new Map();
function format(kind, make) {
  const key = `${current} ${kind}`;
  if (!formats.has(key)) formats.set(key, make(current));
  return formats.get(key);
}

export const number = (value, digits = 0) => format(`n${digits}`,
  (tag) => new Intl.NumberFormat(tag, { maximumFractionDigits: digits })).format(value);

export const bytes = (value) => {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${number(value, unit && value < 100 ? 1 : 0)} ${units[unit]}`;
};

/** A time in the reader's zone. */
export const when = (time, style = 'short') => format(`t${style}`, (tag) => new Intl.DateTimeFormat(tag, style === 'clock'
  ? { hour: '2-digit', minute: '2-digit', second: '2-digit' }
  : style === 'date' ? { dateStyle: 'medium' } : { dateStyle: style, timeStyle: style === 'short' ? 'medium' : 'long' })).format(new Date(time));

/** A length of time in milliseconds, in its two largest units at most. */
export function lasting(ms) {
  if (ms < 1000) return `${number(ms, ms < 10 ? 1 : 0)} ms`;
  const units = current === 'ko' ? ['일', '시간', '분', '초'] : ['d', 'h', 'min', 's'];
  const sizes = [86_400_000, 3_600_000, 60_000, 1000];
  const parts = [];
  for (const [at, size] of sizes.entries()) {
    const count = Math.floor(ms / size);
    ms -= count * size;
    if (count || parts.length) parts.push(count && `${count}${current === 'ko' ? '' : ' '}${units[at]}`);
    if (parts.length === 2) break;
  }
  return parts.filter(Boolean).join(' ');
}
