/** Whole files by way of the agent: opened, read or written in pieces, closed. */

import { decodeBase64, encodeBase64 } from './base64.ts';
import { CHUNK, type Connection, type Done, type RequestOptions } from './connection.ts';
import { AgentError } from './errors.ts';
import { asInteger, asObject, integerOf, type Json, member, type Parsed, textOf } from './messages.ts';

const FILE_LIMIT = 256 * 2 ** 20;

const MS = 1_000_000n;
/** Guest time before a file that is busy is asked again; doubling. */
const BUSY_FIRST = MS;
const BUSY_LAST = 128n * MS;
/** Guest time for which a source that says nothing may still say more: a pipe whose writer works, and not a log. */
const READ_PATIENCE = 1000n * MS;
/** And for which the other end of a pipe may take nothing. */
const WRITE_PATIENCE = 10_000n * MS;
/** What agents say where the guest's kernel says EAGAIN: they open files so that none blocks them. */
const BUSY = /temporarily unavailable|would block/i;

/**
 * Reads a whole file of at most `limit` bytes (256 MiB if not given). What has no end, such as the kernel's log, is read as far as it goes: until
 * it has had nothing new for a second of guest time.
 */
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
    const whole = () => {
      const all = new Uint8Array(total);
      let at = 0;
      for (const chunk of chunks) {
        all.set(chunk, at);
        at += chunk.length;
      }
      finish(all);
    };
    const next = () => {
      const patience = { ns: READ_PATIENCE, over: whole };
      step('guest-file-read', { handle, count: CHUNK }, patience, (answer) => {
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
        whole();
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
      const over = (busy: AgentError) => finish(busy);
      step('guest-file-write', { handle, 'buf-b64': encodeBase64(chunk) }, { ns: WRITE_PATIENCE, over }, (answer) => {
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

/** How long (guest time) a file may be busy, and what happens then. */
interface Patience {
  readonly ns: bigint;
  over(busy: AgentError): void;
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
    step: (name: string, args: Json, patience: Patience, answered: (answer: Parsed) => void) => void,
    finish: Done<T>,
  ) => void,
): void {
  if (path.includes('\0'))
    return done(new AgentError('request', 'guest-file-open', 'the path contains a zero character'));
  const open = connection.command('guest-file-open', { path, mode }, options);
  const bound = (name: string, args: Json, answered: Done<Parsed>, wait = 0n) => {
    const after = wait === 0n ? {} : { after: connection.now() + wait };
    const command = { ...connection.command(name, args, {}), until: open.until, bound: true, ...after };
    connection.enqueue({ ...command, done: answered });
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
      const step = (name: string, args: Json, { ns, over }: Patience, answered: (answer: Parsed) => void) => {
        let left = ns;
        const ask = (wait: bigint) => {
          const judge: Done<Parsed> = (result) => {
            if (!(result instanceof AgentError)) return answered(result);
            if (result.kind !== 'refused' || !BUSY.test(result.message)) return finish(result);
            left -= wait;
            if (left <= 0n) return over(result);
            ask(wait === 0n ? BUSY_FIRST : wait * 2n > BUSY_LAST ? BUSY_LAST : wait * 2n);
          };
          bound(name, args, judge, wait);
        };
        ask(0n);
      };
      work(handle, step, finish);
    },
  });
}
