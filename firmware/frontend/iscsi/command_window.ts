/**
 * The CmdSN window of a session: which commands may come, and how many more (RFC 7143 4.2.2.1).
 *
 * Invariants:
 * - MaxCmdSN never goes back; the window holds at most `sizeMax` commands, in flight or still to come.
 * - Numbers compare as RFC 1982 serial numbers of 32 bits: the window may lie over the wrap.
 */
export function serialDistance(from: number, to: number): number {
  return (to - from) | 0;
}

export class CommandWindow {
  expCmdSn = 0;
  maxCmdSn = 0;

  /** At the first login request: its CmdSN is that of the session's first command. */
  begin(cmdSn: number, size: number): void {
    this.expCmdSn = cmdSn >>> 0;
    this.maxCmdSn = (cmdSn + size - 1) >>> 0;
  }

  /** "ignore": outside the window. "ahead": the one before it has not come yet. */
  judge(cmdSn: number): "next" | "ahead" | "ignore" {
    const ahead = serialDistance(this.expCmdSn, cmdSn);
    if (ahead === 0) return serialDistance(cmdSn, this.maxCmdSn) >= 0 ? "next" : "ignore";
    if (ahead < 0) return "ignore";
    return serialDistance(cmdSn, this.maxCmdSn) >= 0 ? "ahead" : "ignore";
  }

  advance(): void {
    this.expCmdSn = (this.expCmdSn + 1) >>> 0;
  }

  /** Lets `more` commands beyond ExpCmdSN come; less than before changes nothing. */
  allow(more: number): void {
    const wanted = (this.expCmdSn + more - 1) >>> 0;
    if (serialDistance(this.maxCmdSn, wanted) > 0) this.maxCmdSn = wanted;
  }

  /** How many commands may still come. */
  get room(): number {
    return serialDistance(this.expCmdSn, this.maxCmdSn) + 1;
  }
}
