/** Files of a guest by way of its agent: what is there, by hashes, and contents put in place. */

import { guestText, list, optional, refined, type Schema } from '@braid/core/check/schema.ts';
import { BraidError } from '../errors.ts';
import type { Machine } from '../machine.ts';
import type { WaitOptions } from '../pool/link.ts';

/** What is at a path. */
export type FileState =
  | { readonly kind: 'file'; readonly hash: string; readonly mode: string }
  | { readonly kind: 'absent' }
  /** A link, a device, a socket. */
  | { readonly kind: 'other' };

/** A path in the guest. One that is not from the root on goes from the agent's folder, which is the root. */
export const GUEST_PATH: Schema<string> = refined(guestText, 'a path of the guest', (path) => path !== '');
const FROM_ROOT = refined(GUEST_PATH, 'a path of the guest from the root on', (path) => path.startsWith('/'));
export const GUEST_PATHS: Schema<readonly string[] | undefined> = optional(list(FROM_ROOT));

/** A file's content; undefined for none. */
export type Content = { readonly bytes: Uint8Array; readonly mode: string } | undefined;

export const ABSENT: FileState = { kind: 'absent' };

/** Kind, hash, mode and path of all that is at the given paths and below, each followed by a zero byte. */
const LIST = `
export LC_ALL=C
for path; do
  if [ -e "$path" ] || [ -L "$path" ]; then
    find "$path" ! -type d -exec sh -c '
      for path; do
        if [ -f "$path" ] && [ ! -L "$path" ]; then
          hash=$(sha256sum <"$path") && printf "file\\0%s\\0%s\\0%s\\0" "\${hash%% *}" "$(stat -c %a "$path")" "$path"
        else printf "other\\0-\\0-\\0%s\\0" "$path"
        fi
      done' sh {} + || exit 1
  fi
done`;

/** Replaces $1 by $2, with mode $4, if $1 still has the hash $3; the exit code 9 says that it has not. Nothing as $2 removes it. */
const REPLACE = `
export LC_ALL=C
now=absent
if [ -e "$1" ] || [ -L "$1" ]; then now=$(sha256sum <"$1") || exit 1; fi
[ "$3" = any ] || [ "\${now%% *}" = "$3" ] || { rm -f "$2"; exit 9; }
if [ -z "$2" ]; then rm -f "$1"; exit; fi
cat "$2" >"$1" && rm "$2" || exit 1
[ "$now" != absent ] || chmod "$4" "$1"`;

const MAX_LISTED = 2 ** 17;

/** What is at the paths and below them. A path that has nothing is not in the answer. */
export async function listFiles(
  machine: Machine,
  paths: readonly string[],
  options: WaitOptions = {},
): Promise<Map<string, FileState>> {
  const listed = new Map<string, FileState>();
  if (paths.length === 0) return listed;
  const text = await script(machine, LIST, paths, options);
  const fields = text.split('\0');
  if (fields.length % 4 !== 1 || fields.length > MAX_LISTED)
    throw new BraidError(
      'ERR_BRAID_FILE',
      `the guest lists its files in a way that makes no sense, or more than ${MAX_LISTED / 4}`,
    );
  for (let n = 0; n + 4 < fields.length; n += 4) {
    const [kind, hash, mode, path] = fields.slice(n, n + 4) as [string, string, string, string];
    if (!paths.some((asked) => path === asked || path.startsWith(asked.endsWith('/') ? asked : `${asked}/`)))
      throw new BraidError('ERR_BRAID_FILE', 'the guest lists files that nobody asked for');
    // A name that is no UTF-8 cannot be asked for again.
    const known =
      kind === 'file' && /^[0-9a-f]{64}$/.test(hash) && /^[0-7]{1,4}$/.test(mode) && !path.includes('\ufffd');
    listed.set(path, known ? { kind, hash, mode } : { kind: 'other' });
  }
  return listed;
}

/** A file's content; a guest's path that is neither a file nor absent is an error. */
export async function readContent(machine: Machine, path: string, options: WaitOptions = {}): Promise<Content> {
  const state = (await listFiles(machine, [path], options)).get(path);
  if (!state) {
    const folder = await machine.exec(['test', '-d', path], options);
    if (folder.exitCode !== 0) return undefined;
  }
  if (state?.kind !== 'file') throw new BraidError('ERR_BRAID_FILE', `${path} in the guest is no regular file`);
  return { bytes: await machine.readFile(path, options), mode: state.mode };
}

/**
 * Puts a content in place of a file, or removes it, if it still has the hash that is expected (`absent` for none). False when it has
 * not, and then nothing has changed.
 */
export async function putFile(
  machine: Machine,
  path: string,
  content: Content,
  expected: string | 'absent' | 'any' = 'any',
  options: WaitOptions = {},
): Promise<boolean> {
  const beside = content ? `${path}.braid~` : '';
  if (content) {
    const folder = path.slice(0, path.lastIndexOf('/'));
    if (folder !== '') await script(machine, 'mkdir -p "$1"', [folder], options);
    await machine.writeFile(beside, content.bytes, options);
  }
  const { exitCode, stderr } = await machine.exec(
    ['sh', '-c', REPLACE, 'sh', path, beside, expected, content?.mode ?? ''],
    options,
  );
  if (exitCode !== 0 && exitCode !== 9)
    throw new BraidError(
      'ERR_BRAID_FILE',
      `${path} cannot be put in place in the guest: ${stderr.trim().slice(0, 400)}`,
    );
  return exitCode === 0;
}

/** Runs a script with arguments; its output. */
export async function script(
  machine: Machine,
  text: string,
  args: readonly string[],
  options: WaitOptions = {},
): Promise<string> {
  const { exitCode, stdout, stderr } = await machine.exec(['sh', '-c', text, 'sh', ...args], options);
  if (exitCode !== 0)
    throw new BraidError(
      'ERR_BRAID_FILE',
      `the guest cannot do it: ${stderr.trim().slice(0, 400) || `exit code ${exitCode}`}`,
    );
  return stdout;
}
