/** What is said over the virtio port, one JSON text a line. The host asks, the agent answers each `id` once, and tells of syncs between. */

export const portName = "goldcopy.agent";

export type Order =
  /** Runs a program to its end. */
  | { readonly do: "run"; readonly argv: readonly string[] }
  /** Starts one writer for each file, until `stop`. */
  | { readonly do: "write"; readonly folder: string; readonly files: number }
  /** Answers when the writers have ended, each after a whole record. */
  | { readonly do: "stop" }
  /** Reads the files again. */
  | { readonly do: "find"; readonly folder: string; readonly files: number };

export type Asked = Order & { readonly id: number };

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface Found {
  readonly file: number;
  /** How many records are there from the first one on, each as it was written. */
  readonly records: number;
  /** What follows them and is no record; null: nothing. */
  readonly fault: string | null;
}

export type Told =
  | { readonly ready: string }
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly failed: string }
  /** fsync has returned for this record of this file. */
  | { readonly synced: readonly [file: number, number: number] }
  /** A writer has met an error and ended. */
  | { readonly broken: string };
