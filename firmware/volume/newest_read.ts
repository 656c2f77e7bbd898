/**
 * Reads what is admitted, for requests that read before they write: it is awaited until it is committed, and admission keeps what
 * follows away meanwhile.
 */
import type { WriteLog } from "../log/write_log.ts";
import { physicalBlockBytes } from "../store/store.ts";
import type { ReadNewest } from "./admission.ts";
import type { LogAppends } from "./log_appends.ts";
import type { ReadPath } from "./read_path.ts";

const lbaPerBlock = physicalBlockBytes / 512;

interface GroupParts {
  readonly reads: ReadPath;
  readonly appends: LogAppends;
}

/** `parts`: asked for at each read, because the group is still being put together. */
export function newestReader(log: WriteLog, parts: () => GroupParts): ReadNewest {
  return (volume, startLba, blockCount, done) => {
    const { reads, appends } = parts();
    const firstBlock = Math.floor(startLba / lbaPerBlock);
    const endBlock = Math.ceil((startLba + blockCount) / lbaPerBlock);
    const lead = (startLba % lbaPerBlock) * 512;
    const bytes = new Uint8Array((endBlock - firstBlock) * physicalBlockBytes);
    const read = (): void => {
      reads.readSoon(volume, firstBlock, bytes, (error) => {
        const isMedium = error?.code === "medium-error" || error?.code === "disk-failed";
        const outcome = error === null ? null : isMedium ? "medium-error" : "closed";
        done(outcome, bytes.subarray(lead, lead + blockCount * 512));
      });
    };
    appends.whenCommitted(log.headSeq, read, () => done("not-ready", bytes));
  };
}
