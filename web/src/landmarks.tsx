// Landmarks clicked on a scan whose face was not found.
import { useRef, useState } from 'preact/hooks';
import { Stage, TOOLS, useLanguage, useWords } from './shared';
import type { Viewer, Weights } from './viewer';
import { LANDMARKS, LEAST_LANDMARKS } from './words';

const NONE: Weights = {};
type Point = [number, number, number];

export function Landmarks(props: { url: string; onCancel: () => void; onDone: (landmarks: Record<string, Point>) => void }) {
  const t = useWords(), language = useLanguage();
  const viewer = useRef<Viewer | null>(null);
  const frame = useRef<{ center: Point; size: number }>({ center: [0, 0, 0], size: 1 });
  const [places, setPlaces] = useState<(Point | null)[]>([]);
  const [flips, setFlips] = useState(0);
  const next = LANDMARKS[places.length];
  const known = places.filter(Boolean).length;
  // Clicks may come faster than the page is drawn.
  const latest = useRef<(Point | null)[]>([]);
  const take = (found: (Point | null)[]) => {
    latest.current = found;
    setPlaces(found);
  };
  const pick = (point: Parameters<Viewer['addMark']>[0]) => {
    const asked = LANDMARKS[latest.current.length];
    if (!asked) return;
    viewer.current?.addMark(point, asked[0] < 36 ? 0xffb000 : 0x00b0ff);
    take([...latest.current, point.toArray() as Point]);
  };
  const undo = () => {
    if (latest.current.at(-1)) viewer.current?.removeMark();
    take(latest.current.slice(0, -1));
  };
  const turns: Point[] = [[0, 0, 0], [Math.PI, 0, 0], [0, Math.PI, 0], [0, 0, Math.PI], [-Math.PI / 2, 0, 0], [Math.PI / 2, 0, 0], [0, 0, Math.PI / 2], [0, 0, -Math.PI / 2]];
  const flip = (to: number) => {
    setFlips(to);
    viewer.current?.setFlip(...turns[to % turns.length]!);
  };
  const done = () => {
    const { center, size } = frame.current;
    const found: Record<string, Point> = {};
    places.forEach((p, i) => {
      if (p) found[LANDMARKS[i]![0]] = p.map((v, k) => v * size + center[k]!) as Point;
    });
    props.onDone(found);
  };
  return (
    <main class="job clicking">
      <section>
        <h1>{t.landmarks}</h1>
        <p>{t.landmarksHint}</p>
        <ol class="points">
          {LANDMARKS.map(([number, en, ja], i) => (
            <li key={number} class={i === places.length ? 'active' : i < places.length ? (places[i] ? 'past' : 'skipped') : ''} aria-current={i === places.length ? 'step' : undefined}>{language === 'ja' ? ja : en}</li>
          ))}
        </ol>
        <div class="row">
          <button disabled={!places.length} onClick={undo}>{t.undo}</button>
          <button disabled={!next} onClick={() => take([...latest.current, null])}>{t.skip}</button>
          <button onClick={() => flip(flips + 1)}>{t.flip}</button>
        </div>
        <div class="row">
          <button class="main" disabled={known < LEAST_LANDMARKS} onClick={done}>{t.goOn}</button>
          <button onClick={props.onCancel}>{t.cancel}</button>
          {known < LEAST_LANDMARKS && <small>{t.need(LEAST_LANDMARKS - known)}</small>}
        </div>
      </section>
      <section>
        <p class="ask" aria-live="assertive">{next ? `${places.length + 1}. ${language === 'ja' ? next[2] : next[1]}` : ''}</p>
        <div class="crossed">
          <Stage url={props.url} label={t.landmarks} tools={TOOLS} weights={NONE} onViewer={(v) => { viewer.current = v; if (v) v.onPick = pick; }}
            onLoaded={(l) => {
              frame.current = { center: l.extras.center as Point, size: l.extras.size as number };
              if (l.extras.kind === 'frame') flip(1);
            }} />
        </div>
      </section>
    </main>
  );
}

