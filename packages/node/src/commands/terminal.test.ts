/** `braid run` on a terminal, through a pseudo-terminal that Python makes. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { MAIN, temporaryFolder } from '../testing.ts';

const python =
  spawnSync('python3', ['-c', 'import pty']).status === 0 ? false : 'python3 is not there to make a terminal';

/** Runs a command on a terminal of 33 rows and 111 columns, types when a text has come, and shows its modes at the end. */
const DRIVER = `
import os, pty, sys, json, struct, fcntl, termios, select, time
script, argv = json.loads(sys.argv[1]), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp('sh', ['sh', '-c', 'stty rows 33 cols 111; "$@"; code=$?; stty -a | grep -o " icanon\\\\| echo "; echo exit $code', 'sh'] + argv)
out, at, end = b'', 0, time.time() + 30
while time.time() < end:
    if script and script[0][0].encode() in out[at:]:
        at = out.index(script[0][0].encode(), at) + len(script[0][0])
        os.write(fd, script.pop(0)[1].encode())
    if not select.select([fd], [], [], 0.1)[0]:
        continue
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    out += data
sys.stdout.buffer.write(out)
sys.exit(1 if script else 0)
`;

function onTerminal(args: readonly string[], script: readonly (readonly [string, string])[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('python3', ['-c', DRIVER, JSON.stringify(script), process.execPath, MAIN, ...args]);
    let out = '';
    child.stdout.setEncoding('latin1').on('data', (text) => {
      out += text;
    });
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve(out) : reject(new Error(`not all came that was expected: ${out}`)),
    );
  });
}

const options = { skip: guestMissing || python };

test('a shell: keys, Ctrl-C, window size, help, Ctrl-] itself, leaving', options, async () => {
  const out = await onTerminal(
    ['run', '--seed', '1'],
    [
      // One job: Ctrl-C between two would meet neither.
      ['# ', `while [ "$(stty size)" != "33 111" ]; do sleep 0.1; done; sh -c 'stty size; exec sleep 100'\r`],
      ['33 111\r\n', '\x03'],
      ['# ', 'echo rc $?; cat -v\r'],
      ['rc 130', '\x1d\x1d\r'],
      ['^]\r\n', '\x1dh'],
      ['power the guest off', '\x03'],
      ['# ', "printf '\\033[?25l\\033[31mdo%s\\n' ne\r"],
      ['done\r\n', '\x1dq'],
      ['exit 0', ''],
    ],
  );
  assert.match(out, /Ctrl-\] h for help/);
  // What the guest did to the terminal is undone.
  assert.match(out, /\x1b\[\?25h/);
  assert.match(out, /icanon[\s\S]*echo/);
});

test('power off, by the menu and by the guest', options, async () => {
  await onTerminal(
    ['run', '--seed', '1'],
    [
      ['# ', '\x1dp'],
      ['exit 0', ''],
    ],
  );
  await onTerminal(
    ['run', '--seed', '1'],
    [
      ['# ', 'poweroff\r'],
      ['exit 0', ''],
    ],
  );
});

test('a command with a terminal', options, async () => {
  const out = await onTerminal(
    ['run', '--seed', '1', '--tty', '--', 'sh', '-c', 'stty size; read x; echo "<$x>"; exit 4'],
    [
      ['33 111', 'word\r'],
      ['<word>', ''],
      ['exit 4', ''],
    ],
  );
  assert.match(out, /<word>/);
});

test('a crash of the command gives the terminal back', options, async () => {
  const crash = 'data:text/javascript,setTimeout(() => { throw new Error("on purpose") }, 1500)';
  const child = new Promise<string>((resolve) => {
    const driver = spawn('python3', [
      '-c',
      DRIVER,
      JSON.stringify([['exit ', '']]),
      process.execPath,
      '--import',
      crash,
      MAIN,
      'run',
      '--seed',
      '1',
    ]);
    let out = '';
    driver.stdout.setEncoding('latin1').on('data', (text) => {
      out += text;
    });
    driver.on('close', () => resolve(out));
  });
  assert.match(await child, /on purpose[\s\S]*icanon[\s\S]*echo[\s\S]*exit [1-9]/);
});

test('the tour ends with a shell in the machine that has become the best of its clones', options, async () => {
  const out = await onTerminal(
    ['tour', '--seed', '1'],
    [
      ['passes all', ''],
      ['# ', 'cmp repair/wrap repair/candidates/6-count-space && echo sa"m"e; date +%Y\r'],
      [String(new Date().getFullYear()), '\x1dq'],
      ['exit 0', ''],
    ],
  );
  assert.match(out, /\r\nsame\r\n/);
  // The tree was drawn while the search went on, and again at its end.
  assert.match(out, /running[\s\S]*\x1b\[\d+A[\s\S]*\+ 5 6-count-space {2}score 7/);
});

/** Runs a command on a terminal that goes when it shows a text; its exit code, or the signal that ended it as a negative number. */
const LOSER = `
import os, pty, sys
until, argv = sys.argv[1].encode(), sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(argv[0], argv)
out = b''
while until not in out:
    out += os.read(fd, 65536)
os.close(fd)
status = os.waitpid(pid, 0)[1]
print(os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status))
`;

for (const [name, args] of Object.entries({
  'a shell': [],
  'a command': ['--', 'sh', '-c', 'echo "# "; while :; do :; done'],
  'a command with the terminal': ['-t', '--', 'sh'],
})) {
  test(`${name} whose terminal goes ends as by SIGHUP`, { ...options, timeout: 60_000 }, async (t) => {
    const stats = join(temporaryFolder(t.after.bind(t)), 'stats');
    const run = [process.execPath, MAIN, 'run', '--seed', '1', '--stats', stats, ...args];
    const child = spawn('python3', ['-c', LOSER, '# ', ...run]);
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
    });
    await new Promise((resolve) => child.once('close', resolve));
    assert.equal(said, '129\n');
    assert.deepEqual(JSON.parse(readFileSync(stats, 'utf8')).exit, { reason: 'SIGHUP', code: 129 });
  });
}
