/** `HOST:PORT` and `[IPV6]:PORT`, as profiles and peers write addresses. */

export interface SocketAddress {
  readonly host: string;
  readonly port: number;
}

/** null: not an address. Port 0 is allowed: a listener then takes a free one. */
export function parseAddress(text: string): SocketAddress | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text);
  if (match === null) return null;
  const host = match[1] ?? match[2];
  const port = Number(match[3]);
  return host === undefined || port > 65535 ? null : { host, port };
}

export function formatAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** An IPv4 host of a dual-stack listener, without its `::ffff:` prefix. */
export function plainHost(host: string): string {
  return host.startsWith("::ffff:") && host.includes(".") ? host.slice(7) : host;
}

/** The cause of a system error, for messages: its code. */
export function causeOf(error: unknown): string {
  if (typeof error === "object" && error !== null && "code" in error && typeof error.code === "string") {
    return causes[error.code] ?? error.code;
  }
  return error instanceof Error ? error.message : String(error);
}

const causes: Record<string, string> = {
  EADDRINUSE: "the address is in use (EADDRINUSE)",
  EADDRNOTAVAIL: "this machine has no such address (EADDRNOTAVAIL)",
  EACCES: "permission denied (EACCES)",
  EISDIR: "it is a directory (EISDIR)",
  ENOTDIR: "part of its path is not a directory (ENOTDIR)",
  EPERM: "not permitted (EPERM)",
  EROFS: "the file system is read-only (EROFS)",
  ECONNREFUSED: "nobody listens there (ECONNREFUSED)",
  EHOSTUNREACH: "no route (EHOSTUNREACH)",
  ENETUNREACH: "no route (ENETUNREACH)",
  ENOTFOUND: "the name is unknown (ENOTFOUND)",
  ENOENT: "no such file or directory (ENOENT)",
  ENOSPC: "no space left (ENOSPC)",
  EBADE: "the disk takes it from others alone (EBADE)",
  ETIMEDOUT: "no answer (ETIMEDOUT)",
};
