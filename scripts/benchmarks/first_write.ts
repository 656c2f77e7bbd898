/**
 * When does a host's write succeed again? A plain host that connects, asks for the export and writes 4 KiB, again and again, until
 * the appliance says that it is done (NBD fixed newstyle, OPT_EXPORT_NAME, simple replies).
 */

const limitMs = 60_000;
/** Between two tries: what a figure can be too long by. */
const pauseMs = 5;
const greetingBytes = 18;
const exportReplyBytes = 10;
const writeBytes = 4096;

/** Resolves with the time (`performance.now()`) of the first write that was accepted. */
export async function firstWriteAt(portal: string, exportName: string): Promise<number> {
  const endMs = performance.now() + limitMs;
  while (performance.now() < endMs) {
    if (await tryWrite(portal, exportName)) return performance.now();
    await Bun.sleep(pauseMs);
  }
  throw new Error(`no write to ${exportName} at ${portal} in ${limitMs / 1000} s`);
}

/** False: refused at any step. */
function tryWrite(portal: string, exportName: string): Promise<boolean> {
  return new Promise((resolve) => {
    const at = portal.lastIndexOf(":");
    let seen: Buffer = Buffer.alloc(0);
    let asked = false;
    let written = false;
    Bun.connect({
      hostname: portal.slice(0, at),
      port: Number(portal.slice(at + 1)),
      socket: {
        data(socket, chunk) {
          seen = Buffer.concat([seen, chunk]);
          if (!asked && seen.byteLength >= greetingBytes) {
            asked = true;
            socket.write(askFor(exportName));
          }
          if (!written && seen.byteLength >= greetingBytes + exportReplyBytes) {
            written = true;
            socket.write(writeRequest());
          }
          const reply = greetingBytes + exportReplyBytes;
          if (seen.byteLength < reply + 16) return;
          resolve(seen.readUInt32BE(reply + 4) === 0);
          // Closes at once: what is told comes first.
          socket.end();
        },
        close: () => resolve(false),
        error: () => resolve(false),
        connectError: () => resolve(false),
      },
    }).catch(() => resolve(false));
  });
}

function askFor(exportName: string): Uint8Array {
  const name = Buffer.from(exportName);
  const head = Buffer.alloc(20);
  // Fixed newstyle, no zeroes behind the export's size; then option 1.
  head.writeUInt32BE(3, 0);
  head.write("IHAVEOPT", 4, "latin1");
  head.writeUInt32BE(1, 12);
  head.writeUInt32BE(name.byteLength, 16);
  return Buffer.concat([head, name]);
}

/** The first 4 KiB of the volume. */
function writeRequest(): Uint8Array {
  const request = Buffer.alloc(28 + writeBytes, 0x5a);
  request.fill(0, 0, 28);
  request.writeUInt32BE(0x25609513, 0);
  request.writeUInt16BE(1, 6);
  request.writeUInt32BE(writeBytes, 24);
  return request;
}
