/** A database under test: it lies in a folder on a LUN, and everything about it that outlives the LUN lies elsewhere. */
import type { Acknowledged } from "./ledger.ts";

export interface Load {
  /** Each worker ends after its present transaction. */
  stop(): void;
  /** When every worker has ended; what the first failing one said, or an empty text. */
  readonly ended: Promise<string>;
}

export interface OpenDatabase {
  /** A fresh one; it runs afterwards. */
  create(): Promise<void>;
  /** With crash recovery, if need be. */
  start(): Promise<void>;
  load(acknowledged: Acknowledged): Load;
  contents(): Promise<{ entries: string[][]; balances: string[][] }>;
  stop(): Promise<void>;
  /** Stopped: its own proof that its files are sound. */
  check(): Promise<void>;
  /** Its disk is dead: let go of it. */
  abandon(): Promise<void>;
}

export interface Database {
  readonly name: string;
  readonly programs: readonly string[];
  /** `folder` is on the LUN, `outside` is not. Nothing runs yet. */
  open(folder: string, outside: string): Promise<OpenDatabase>;
}
