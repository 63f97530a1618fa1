/**
 * Questions that programs of a guest put to their terminal: where the cursor is, what kind of terminal it is, which colours it has. A
 * replay has nobody to answer to: the host's terminal would, and its answers would be typed into the user's shell.
 */

/** Cursor and status reports, attributes, versions, modes, windows, parameters, keyboards; ESC Z; ENQ; colours; settings. */
const QUERIES =
  /\x1b\[[?>=<]?[\d;]*(?:[cntxq]|\$p)|\x1b\[[?>=<][\d;]*u|\x1bZ|\x05|\x1b\][\d;]*\?(?:\x07|\x1b\\)|\x1bP[+$]q[^\x07\x1b]*\x1b\\/g;
/** What may become one with what comes next. */
const BEGUN =
  /(?:\x1b(?:\[[?>=<]?[\d;]{0,32}\$?|\][\d;]{0,32}\??\x1b?|P(?:[+$](?:q[^\x07\x1b]{0,256}\x1b?)?)?)?){1,32}$/;

export class QueryFilter {
  private held = '';

  /** The same without the questions; what may be the beginning of one comes with the next bytes. */
  pass(bytes: Uint8Array): Uint8Array {
    const text = this.held + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    let kept = text;
    // What is left on both sides of one may be another one.
    for (let before = ''; before !== kept; ) {
      before = kept;
      kept = kept.replace(QUERIES, '');
    }
    this.held = BEGUN.exec(kept)?.[0] ?? '';
    return Buffer.from(kept.slice(0, kept.length - this.held.length), 'latin1');
  }
}
