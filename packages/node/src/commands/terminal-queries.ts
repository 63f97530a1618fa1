/**
 * Questions that programs of a guest put to their terminal: where the cursor is, what kind of terminal it is, which colours it has. A
 * replay has nobody to answer to: the host's terminal would, and its answers would be typed into the user's shell.
 *
 * A question is taken out at its last byte, and what follows is read as if it had never been there: the parts around it may be another.
 * So each byte that waits has the state of the scanner behind it. A byte comes once and goes once: the cost is linear, whatever comes.
 */

const [BEL, ENQ, ESC] = [0x07, 0x05, 0x1b];
/** Bytes that wait for what they become. Of a longer question only the last byte is taken out. */
const MOST_HELD = 1024;
/** More bytes than ever wait. */
const GONE = Number.MAX_SAFE_INTEGER / 2;

/** What has come of a sequence (ECMA-48, 5.4; xterm's control sequences). */
const STATE = {
  ground: 0,
  escape: 1,
  /** `ESC [`: control sequences, their parameters, those with a private mark, and a `$` behind them. */
  control: 2,
  parameters: 3,
  private: 4,
  dollar: 5,
  /** `ESC ]`: colours and the like; a `?` behind numbers, and the `ESC` of an end. */
  command: 6,
  question: 7,
  questionEnd: 8,
  /** `ESC P`, then `+` or `$`, then `q`: settings; and the `ESC` of an end. */
  device: 9,
  deviceKind: 10,
  setting: 11,
  settingEnd: 12,
  /** The byte ends a question. */
  asked: 13,
} as const;
type State = (typeof STATE)[keyof typeof STATE];

const codes = (text: string) => new Set([...text].map((character) => character.charCodeAt(0)));
const MARKS = codes('?>=<');
const NUMBERS = codes('0123456789;');
/** Status reports, attributes, windows, parameters, versions; and the keyboard's modes with a private mark. */
const FINAL = codes('cntxq');
const FINAL_PRIVATE = codes('cntxqu');
const [BACKSLASH, BRACKET, CLOSING, DOLLAR, PLUS, P, QUESTION, SMALL_P, Q, Z] = [...codes('\\[]$+P?pqZ')];

/** The state behind a byte. */
function next(state: State, byte: number): State {
  const ends = state === STATE.questionEnd || state === STATE.settingEnd;
  if (ends && byte === BACKSLASH) return STATE.asked;
  if (byte === ESC) {
    if (state === STATE.question) return STATE.questionEnd;
    return state === STATE.setting ? STATE.settingEnd : STATE.escape;
  }
  switch (ends ? STATE.escape : state) {
    case STATE.escape:
      if (byte === Z) return STATE.asked;
      if (byte === BRACKET) return STATE.control;
      if (byte === CLOSING) return STATE.command;
      return byte === P ? STATE.device : STATE.ground;
    case STATE.control:
    case STATE.parameters:
    case STATE.private:
      if (state === STATE.control && MARKS.has(byte)) return STATE.private;
      if (NUMBERS.has(byte)) return state === STATE.control ? STATE.parameters : state;
      if ((state === STATE.private ? FINAL_PRIVATE : FINAL).has(byte)) return STATE.asked;
      return byte === DOLLAR ? STATE.dollar : STATE.ground;
    case STATE.dollar:
      return byte === SMALL_P ? STATE.asked : STATE.ground;
    case STATE.command:
      if (NUMBERS.has(byte)) return STATE.command;
      return byte === QUESTION ? STATE.question : STATE.ground;
    case STATE.question:
      return byte === BEL ? STATE.asked : STATE.ground;
    case STATE.device:
      return byte === PLUS || byte === DOLLAR ? STATE.deviceKind : STATE.ground;
    case STATE.deviceKind:
      return byte === Q ? STATE.setting : STATE.ground;
    case STATE.setting:
      return byte === BEL ? STATE.ground : STATE.setting;
    default:
      return STATE.ground;
  }
}

/** A byte that waits, the state behind it, and how many bytes before it its sequence begins. */
interface Held {
  readonly byte: number;
  readonly state: State;
  readonly begun: number;
}

export class QueryFilter {
  private held: Held[] = [];
  /** The state behind the last byte that was let through. */
  private before: State = STATE.ground;

  /** The same without the questions; what may be the beginning of one comes with the next bytes. */
  pass(bytes: Uint8Array): Uint8Array {
    const out = new Uint8Array(this.held.length + bytes.length);
    let length = 0;
    const release = (count: number) => {
      this.before = this.held[count - 1]?.state ?? this.before;
      for (const { byte } of this.held.splice(0, count)) out[length++] = byte;
    };
    for (const byte of bytes) {
      if (byte === ENQ) continue;
      const last = this.held.at(-1);
      const from = last?.state ?? this.before;
      const state = next(from, byte);
      if (state === STATE.ground && !last) {
        this.before = state;
        out[length++] = byte;
      } else if (state === STATE.asked) {
        // Where its beginning is gone already, it stays without an end.
        const begun = (last?.begun ?? GONE) + 1;
        if (begun <= this.held.length) this.held.length -= begun;
      } else {
        this.held.push({ byte, state, begun: begunAt(from, state, last?.begun ?? GONE) });
        if (state === STATE.ground) release(this.held.length);
        else if (this.held.length > MOST_HELD) release(MOST_HELD / 2);
      }
    }
    return out.slice(0, length);
  }
}

/** How many bytes before a byte its sequence begins, where `before` says so of the byte before. */
function begunAt(from: State, state: State, before: number): number {
  if (state === STATE.escape || from === STATE.ground) return 0;
  const ends = from === STATE.questionEnd || from === STATE.settingEnd;
  // What might have been an end is the beginning of something else.
  return ends ? 1 : before + 1;
}
