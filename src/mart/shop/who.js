// Who shops: a member that is there, or one that registers now. With authentication on it is the token's bearer.

import { command, newId } from '../assets/api.js';
import { Failure, go, html, say, useRef, useState, useTitle, useToken } from '../assets/page.js';
import { SAMPLE_MEMBERS, isMember, useMember } from './data.js';
import { t } from './texts.js';

export function Who({ after }) {
  const who = useMember();
  const bearer = useToken();
  const [problem, fail] = useState(null);
  const number = useRef();
  useTitle(t('who'), t('mart'), 'who');
  const become = (id) => {
    isMember(id);
    say(t('signed', id));
    go(after ? after.split('/') : ['store']);
  };
  const use = (event) => {
    event.preventDefault();
    const id = number.current.value.trim();
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) { say(t('invalid_id'), 'bad'); return; }
    become(id);
  };
  const register = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    const id = bearer && who ? who : newId('m-').slice(0, 16);
    fail(null);
    try {
      await command('member', id, 'register', { name: given.name, email: given.email, address: given.address || null });
      say(t('registered'));
      become(id);
    } catch (caught) {
      caught.detail = t('code', caught.code, caught.detail);
      fail(caught);
    }
  };
  return html`<main id="main" tabindex="-1" class="page narrow"><h1>${t('who')}</h1>
    ${who && html`<p class="row"><span>${t('signed', who)}</span>${!bearer && html`<button type="button" onClick=${() => isMember('')}>${t('leave')}</button>`}</p>`}
    ${!bearer && html`<section class="panel"><h2>${t('member')}</h2>
      <p class="quiet">${t('other_hint')}</p>
      <p id="samples">${t('sample')}</p>
      <ul class="choices" aria-labelledby="samples">${SAMPLE_MEMBERS.map((id) => html`<li key=${id}><button type="button" onClick=${() => become(id)}>${id}</button></li>`)}</ul>
      <form class="receive" onSubmit=${use}><label class="grow">${t('member_id')}<input ref=${number} required maxlength="64" autocomplete="off" spellcheck=${false} /></label><button class="main">${t('member_use')}</button></form>
    </section>`}
    <section class="panel"><h2>${t('register')}</h2>
      <form onSubmit=${register}>
        <label>${t('name')}<input name="name" required maxlength="200" autocomplete="name" /></label>
        <label>${t('email')}<input name="email" type="email" required maxlength="254" autocomplete="email" /></label>
        <label>${t('address')}<input name="address" maxlength="300" autocomplete="street-address" /></label>
        <${Failure} problem=${problem} />
        <button class="main">${t('register')}</button>
      </form></section>
  </main>`;
}
