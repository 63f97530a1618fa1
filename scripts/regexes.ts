// Regular expressions whose time is not linear in the text, found by their shape.
//
// Texts come from outside: guests, files, agents, peers. A backtracking matcher takes exponential time where what is repeated is itself
// of variable length or a choice, and at least quadratic time where two neighbours that are repeated can take the same characters.

/** An item of a sequence: what it may begin with, as the text of its class, and whether it is repeated without a small bound. */
interface Item {
  readonly atom: string;
  readonly repeats: boolean;
}

/** What is wrong with an expression, or undefined. */
export function slowRegex(source: string): string | undefined {
  let at = 0;

  /** A group's content; whether its length varies, or there is a choice in it. */
  function sequence(): { varies: boolean; complaint?: string } {
    let varies = false;
    let before: Item | undefined;
    while (at < source.length && source[at] !== ')') {
      if (source[at] === '|') {
        at++;
        varies = true;
        before = undefined;
        continue;
      }
      const from = at;
      let inner = false;
      if (source[at] === '(') {
        at++;
        const group = /^\?(?:[:=!]|<[=!]|<\w+>)/.exec(source.slice(at));
        at += group?.[0].length ?? 0;
        const found = sequence();
        if (found.complaint) return found;
        at++;
        inner = found.varies;
      } else if (source[at] === '[') {
        for (at++; source[at] !== ']'; at++) if (source[at] === '\\') at++;
        at++;
      } else if (source[at] === '\\') {
        at += /^\\(?:[pPu]\{[^}]*\}|x..|u....|k<\w+>|.)/.exec(source.slice(at))![0].length;
      } else at++;
      const atom = source.slice(from, at);
      const { most, fixed } = quantifier();
      if (inner && most > 1) return { varies, complaint: `${source.slice(from, at)} repeats what varies` };
      const repeats = most > 64 && !fixed;
      if (repeats && before?.repeats && before.atom === atom)
        return { varies, complaint: `${before.atom} is repeated by two neighbours` };
      varies ||= !fixed || inner;
      // What may be empty does not part its neighbours.
      if (repeats || !before?.repeats || (fixed && !inner)) before = { atom, repeats };
    }
    return { varies };
  }

  function quantifier(): { most: number; fixed: boolean } {
    const found = /^(?:[*+?]|\{(\d+)(,(\d*))?\})\??/.exec(source.slice(at));
    if (!found) return { most: 1, fixed: true };
    at += found[0].length;
    if (found[0].startsWith('?')) return { most: 1, fixed: false };
    if (!found[1]) return { most: Number.POSITIVE_INFINITY, fixed: false };
    const most = found[2] === undefined ? Number(found[1]) : found[3] ? Number(found[3]) : Number.POSITIVE_INFINITY;
    return { most, fixed: found[2] === undefined || Number(found[1]) === most };
  }

  return sequence().complaint;
}
