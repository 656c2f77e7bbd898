/** A virtual machine's monitor with a machine behind it that is only a state: QMP over a real socket, with every fault on demand. */
import { createServer, type Server, type Socket } from "node:net";

export interface FakeMachine {
  name: string | null;
  /** As query-status says it. */
  state: string;
  /** What `stop` and `system_reset` make of it. */
  stopped: string;
  reset: string;
}

/** What is sent in place of the answer; null: the answer. */
type Interference = (command: string, socket: Socket) => boolean;

export class FakeMonitor {
  readonly machine: FakeMachine = { name: "oak-b", state: "running", stopped: "paused", reset: "prelaunch" };
  /** Every command, of all conversations. */
  readonly heard: string[] = [];
  /** How many bytes are sent at once. */
  chunkBytes = 65536;
  greeting =
    '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}\r\n';
  /** Before each answer. */
  events = "";
  /** Takes a command over; true: there is no other answer. */
  interfere: Interference = () => false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      this.#serve(socket);
    });
  }

  /** `HOST:PORT`, or `path`. */
  listen(path?: string): Promise<string> {
    return new Promise((resolve) => {
      const listening = () => {
        const address = this.#server.address();
        resolve(typeof address === "object" && address !== null ? `127.0.0.1:${address.port}` : (path ?? ""));
      };
      if (path === undefined) this.#server.listen(0, "127.0.0.1", listening);
      else this.#server.listen(path, listening);
    });
  }

  get clients(): number {
    return this.#sockets.size;
  }

  close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  send(socket: Socket, text: string): void {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.byteLength; at += this.chunkBytes)
      socket.write(bytes.subarray(at, at + this.chunkBytes));
  }

  #serve(socket: Socket): void {
    socket.setNoDelay(true);
    this.send(socket, this.greeting);
    let said = "";
    socket.on("data", (chunk) => {
      said += chunk.toString();
      const lines = said.split("\n");
      said = lines.pop() ?? "";
      for (const line of lines) this.#command(socket, line);
    });
  }

  #command(socket: Socket, line: string): void {
    const { execute, id } = JSON.parse(line) as { execute: string; id: number };
    this.heard.push(execute);
    if (this.interfere(execute, socket)) return;
    this.send(socket, `${this.events}${JSON.stringify({ return: this.#obey(execute), id })}\r\n`);
  }

  #obey(command: string): unknown {
    const { machine } = this;
    if (command === "query-name") return machine.name === null ? {} : { name: machine.name };
    if (command === "query-status") return { status: machine.state, running: machine.state === "running" };
    if (command === "stop" && machine.state === "running") machine.state = machine.stopped;
    if (command === "cont") machine.state = "running";
    if (command === "system_reset") machine.state = machine.reset;
    return {};
  }
}
