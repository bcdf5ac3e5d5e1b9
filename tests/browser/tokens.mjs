// An issuer of tokens that only one test knows.

import { createSign, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ISSUER = 'https://issuer.example';
const AUDIENCE = 'mart';
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Returns the flags of a service that believes it, and what signs tokens. */
export async function issuer() {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const folder = await mkdtemp(join(tmpdir(), 'headwater-issuer-'));
  const keys = join(folder, 'keys.json');
  const key = { ...publicKey.export({ format: 'jwk' }), kid: 'k-1', alg: 'RS256', use: 'sig' };
  await writeFile(keys, JSON.stringify({ keys: [key] }));
  return {
    flags: ['--auth-jwks', keys, '--auth-issuer', ISSUER, '--auth-audience', AUDIENCE],
    sign(subject, scope) {
      const now = Math.floor(Date.now() / 1000);
      const signed = `${part({ alg: 'RS256', typ: 'JWT', kid: 'k-1' })}.${part({ iss: ISSUER, aud: AUDIENCE, sub: subject, scope, iat: now, exp: now + 600 })}`;
      return `${signed}.${createSign('RSA-SHA256').update(signed).sign(privateKey, 'base64url')}`;
    },
    end: () => rm(folder, { recursive: true, force: true }),
  };
}
