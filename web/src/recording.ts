// Recordings of a face as weights of ARKit's units: what Live Link Face saves, and simpler tables.

/** Weights by frame. */
export interface Recording {
  name: string;
  seconds: number;
  frames: Record<string, number>[];
  /** Turns of the head in radians per frame: yaw, pitch, roll; absent if the recording has none. */
  turns?: [number, number, number][];
}

const TURNS = ['headyaw', 'headpitch', 'headroll'];

/**
 * Read a CSV file. Columns are units (Live Link Face: Timecode, BlendShapeCount, EyeBlinkLeft, …, HeadYaw, …), or frames if the
 * first one is called blendshape, or the table is long: blendshape, frame and a value.
 */
export function readRecording(text: string, name: string, units: readonly string[]): Recording {
  const rows = text.replace(/^\ufeff/, '').split(/\r?\n/).filter((line) => line.trim()).map((line) => line.split(/[,;\t]/).map((c) => c.trim()));
  const head = (rows.shift() ?? []).map((c) => c.toLowerCase().replace(/[^a-z]/g, ''));
  const known = new Map(units.map((unit) => [unit.toLowerCase(), unit]));
  const unitOf = (word: string) => known.get(word.toLowerCase().replace(/[^a-z]/g, ''));
  let frames: Record<string, number>[] = [];
  let turns: [number, number, number][] | undefined;
  const shape = head.findIndex((c) => ['blendshape', 'blendshapes', 'shape', 'unit', 'name'].includes(c));
  const frame = head.indexOf('frame');
  if (shape >= 0 && frame >= 0) {
    const value = head.findIndex((_, i) => i !== shape && i !== frame);
    for (const row of rows) {
      const unit = unitOf(row[shape] ?? '');
      const at = Number(row[frame]);
      if (unit && Number.isInteger(at) && at >= 0 && at < 1e6) (frames[at] ??= {})[unit] = weight(row[value]);
    }
    frames = Array.from(frames, (found, i) => found ?? frames[i - 1] ?? {});
  } else if (shape === 0) {
    for (const row of rows) {
      const unit = unitOf(row[0] ?? '');
      if (unit) row.slice(1).forEach((cell, i) => ((frames[i] ??= {})[unit] = weight(cell)));
    }
  } else {
    const columns = head.map((c) => known.get(c));
    if (columns.some(Boolean)) {
      frames = rows.map((row) => Object.fromEntries(columns.flatMap((unit, i) => (unit ? [[unit, weight(row[i])]] : []))));
    }
    const at = TURNS.map((c) => head.indexOf(c));
    if (at.every((i) => i >= 0)) turns = rows.map((row) => at.map((i) => Number(row[i]) || 0) as [number, number, number]);
  }
  if (!frames.length) throw new Error('no units');
  return { name, frames, turns, seconds: duration(rows, head, frames.length) };
}

function weight(cell: string | undefined): number {
  const value = Number(cell);
  return Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : 0;
}

// Timecodes are hh:mm:ss:ff.fff at 60 frames per second, or seconds.
function duration(rows: string[][], head: string[], count: number): number {
  const column = head.findIndex((c) => ['timecode', 'time', 'timestamp', 'seconds'].includes(c));
  const seconds = (cell: string | undefined): number => {
    const parts = (cell ?? '').split(':').map(Number);
    if (parts.length === 4) return parts[0]! * 3600 + parts[1]! * 60 + parts[2]! + parts[3]! / 60;
    return parts.length === 1 ? parts[0]! : NaN;
  };
  const span = column < 0 ? NaN : seconds(rows.at(-1)?.[column]) - seconds(rows[0]?.[column]);
  return span > 0 && span < 36000 ? (span * count) / Math.max(1, count - 1) : count / 60;
}
