/**
 * The appliance's management socket: HTTP on a unix socket, handed to a handler that knows nothing of either.
 *
 * Invariants:
 * - A socket that another process serves is never taken; one that a killed process left behind is.
 * - Only its owner may connect: whoever may, may do everything.
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { causeOf } from "./address.ts";

export type ManagementHandler = (
  method: string,
  path: string,
  body: string,
) => Promise<{ readonly status: number; readonly body: unknown }>;

export interface ManagementSocket {
  close(): void;
}

const probeMs = 1000;

/** Or why not, one line. `crash` gets what the handler threw: a defect. */
export async function serveManagement(wanted: {
  readonly path: string;
  readonly bodyBytesMax: number;
  readonly handler: ManagementHandler;
  readonly crash: (error: unknown) => never;
}): Promise<ManagementSocket | string> {
  const { path, bodyBytesMax, handler, crash } = wanted;
  if (await isServed(path))
    return `another appliance serves ${path}: stop it, or give this profile another [manage] socket`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    rmSync(path, { force: true });
    const listening = {
      unix: path,
      maxRequestBodySize: bodyBytesMax,
      // Long operations answer when they are done. (On a unix socket `server.timeout(request, 0)` has no effect in Bun 1.4.5.)
      idleTimeout: 0,
      fetch: async (request: Request) => {
        const url = new URL(request.url);
        const answer = await handler(request.method, url.pathname + url.search, await request.text());
        return Response.json(answer.body, { status: answer.status });
      },
      error: crash,
    };
    // bun-types know no idleTimeout for unix sockets; Bun does.
    const server = Bun.serve(listening as unknown as Bun.Serve.Options<undefined>);
    chmodSync(path, 0o600);
    return {
      close: () => {
        void server.stop(true);
        rmSync(path, { force: true });
      },
    };
  } catch (error) {
    return `cannot serve the management socket ${path}: ${causeOf(error)}; correct [manage] socket in the profile`;
  }
}

/** Whether somebody takes connections there; one who takes them and stays silent counts too (a paused process). */
function isServed(path: string): Promise<boolean> {
  return fetch("http://appliance/", { unix: path, signal: AbortSignal.timeout(probeMs) }).then(
    () => true,
    (error: unknown) => error instanceof Error && error.name === "TimeoutError",
  );
}
