/** Whole files by way of the agent: opened, read or written in pieces, closed. */

import { decodeBase64, encodeBase64 } from './base64.ts';
import { CHUNK, type Connection, type Done, type RequestOptions } from './connection.ts';
import { AgentError } from './errors.ts';
import { asInteger, asObject, integerOf, type Json, member, type Parsed, textOf } from './messages.ts';

const FILE_LIMIT = 256 * 2 ** 20;

/** Reads a whole file of at most `limit` bytes (256 MiB if not given). */
export function readFile(
  connection: Connection,
  path: string,
  done: Done<Uint8Array>,
  options: RequestOptions & { readonly limit?: number },
): void {
  const limit = options.limit ?? FILE_LIMIT;
  const chunks: Uint8Array[] = [];
  let total = 0;
  withFile(connection, path, 'r', options, done, (handle, step, finish) => {
    const next = () => {
      step('guest-file-read', { handle, count: CHUNK }, (answer) => {
        const object = asObject(answer);
        const bytes = decodeBase64(textOf(object, 'buf-b64') ?? '!');
        const eof = member(object, 'eof');
        if (bytes === undefined || typeof eof !== 'boolean' || integerOf(object, 'count') !== bytes.length) {
          return finish(new AgentError('protocol', 'guest-file-read', 'its answer makes no sense'));
        }
        if (bytes.length === 0 && !eof) {
          return finish(
            new AgentError('protocol', 'guest-file-read', 'it reads nothing and does not say that the file ends'),
          );
        }
        total += bytes.length;
        if (total > limit) {
          return finish(new AgentError('limit', 'guest-file-read', `${path} has more than ${limit} bytes`));
        }
        chunks.push(bytes);
        if (!eof) return next();
        const whole = new Uint8Array(total);
        let at = 0;
        for (const chunk of chunks) {
          whole.set(chunk, at);
          at += chunk.length;
        }
        finish(whole);
      });
    };
    next();
  });
}

/** Writes a whole file, replacing one that is there. The bytes must not change until `done`. */
export function writeFile(
  connection: Connection,
  path: string,
  bytes: Uint8Array,
  done: Done<void>,
  options: RequestOptions,
): void {
  withFile(connection, path, 'w', options, done, (handle, step, finish) => {
    const next = (at: number) => {
      if (at === bytes.length) return finish(undefined);
      const chunk = bytes.subarray(at, at + CHUNK);
      step('guest-file-write', { handle, 'buf-b64': encodeBase64(chunk) }, (answer) => {
        const count = integerOf(asObject(answer), 'count');
        if (count === undefined || count <= 0 || count > chunk.length) {
          return finish(new AgentError('protocol', 'guest-file-write', 'its answer makes no sense'));
        }
        next(at + count);
      });
    };
    next(0);
  });
}

/** Opens a file, does `work`, closes the file whatever happened, and reports. */
function withFile<T>(
  connection: Connection,
  path: string,
  mode: string,
  options: RequestOptions,
  done: Done<T>,
  work: (
    handle: number,
    step: (name: string, args: Json, answered: (answer: Parsed) => void) => void,
    finish: Done<T>,
  ) => void,
): void {
  if (path.includes('\0'))
    return done(new AgentError('request', 'guest-file-open', 'the path contains a zero character'));
  const open = connection.command('guest-file-open', { path, mode }, options);
  const bound = (name: string, args: Json, answered: Done<Parsed>) => {
    connection.enqueue({ ...connection.command(name, args, {}), until: open.until, bound: true, done: answered });
  };
  connection.enqueue({
    ...open,
    done: (answer) => {
      if (answer instanceof AgentError) return done(answer);
      const handle = asInteger(answer);
      if (handle === undefined) return done(new AgentError('protocol', open.name, 'its answer makes no sense'));
      const finish: Done<T> = (outcome) => {
        if (outcome instanceof AgentError) {
          // Nobody waits for the file to be closed; a new agent has no such file.
          const command = connection.command('guest-file-close', { handle }, {});
          if (outcome.kind !== 'gone') connection.enqueue({ ...command, bound: true, done: () => {} });
          return done(outcome);
        }
        // All of it is written only when that has worked.
        bound('guest-file-close', { handle }, (closed) => {
          done(closed instanceof AgentError && mode !== 'r' ? closed : outcome);
        });
      };
      const step = (name: string, args: Json, answered: (answer: Parsed) => void) => {
        bound(name, args, (result) => (result instanceof AgentError ? finish(result) : answered(result)));
      };
      work(handle, step, finish);
    },
  });
}
