// What the studio and the viewer share: language, theme, sliders, the canvas with its tools, recordings.
import { createContext } from 'preact';
import { useContext, useEffect, useRef, useState } from 'preact/hooks';
import { readRecording, type Recording } from './recording';
import { type Loaded, Viewer, type Weights } from './viewer';
import { expressionIn, type Language, wordsOf, type Words } from './words';
import type { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';

export const LanguageContext = createContext<Language>('en');
export const useLanguage = (): Language => useContext(LanguageContext);
export const useWords = (): Words => wordsOf(useLanguage());

const kept = (key: string): string | null => {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
};
const keep = (key: string, value: string): void => {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Private windows may forbid it; the choice then lasts as long as the page.
  }
};

export function useLook(): { language: Language; setLanguage: (l: Language) => void; toggleTheme: () => void } {
  const [language, set] = useState<Language>(() => (kept('language') ?? navigator.language.slice(0, 2)) === 'ja' ? 'ja' : 'en');
  const [theme, setTheme] = useState(() => kept('theme') ?? '');
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  useEffect(() => {
    if (theme) document.documentElement.dataset.theme = theme;
  }, [theme]);
  const setLanguage = (l: Language) => {
    keep('language', l);
    set(l);
  };
  const toggleTheme = () => {
    const dark = theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    keep('theme', dark ? 'light' : 'dark');
    setTheme(dark ? 'light' : 'dark');
  };
  return { language, setLanguage, toggleTheme };
}

export function Header(props: { title: string; look: ReturnType<typeof useLook>; children?: preact.ComponentChildren }) {
  const t = useWords();
  const other = props.look.language === 'ja' ? 'en' : 'ja';
  return (
    <header>
      <a class="brand" href="#"><img src="icon.svg" alt="" width="28" height="28" /> <span>{props.title}</span></a>
      <div class="grow" />
      {props.children}
      <button class="quiet" lang={other} onClick={() => props.look.setLanguage(other)}>{t.language}</button>
      <button class="quiet" onClick={props.look.toggleTheme} aria-label={t.theme} title={t.theme}>◐</button>
    </header>
  );
}

export function Slider(props: { label: string; value: number; min?: number; max?: number; step?: number; show?: string; onChange: (v: number) => void }) {
  const { label, value, min = 0, max = 1, step = 0.01, onChange } = props;
  return (
    <label class="slider">
      <span>{label}</span>
      <input type="range" min={min} max={max} step={step} value={value} aria-label={label} onInput={(e) => onChange(Number(e.currentTarget.value))} />
      <output>{props.show ?? value.toFixed(2)}</output>
    </label>
  );
}

/** Tools of a canvas. */
export interface Tools { angle: number; strength: number; wires: boolean; inferred: boolean }
export const TOOLS: Tools = { angle: 0.4, strength: 1, wires: false, inferred: false };

/** An avatar's canvas. */
export function Stage(props: {
  url: string; label: string; tools: Tools; weights: Weights; mask?: string; turn?: [number, number, number] | undefined;
  decoder?: Parameters<GLTFLoader['setMeshoptDecoder']>[0]; onLoaded?: (loaded: Loaded) => void; onViewer?: (viewer: Viewer | null) => void;
}) {
  const t = useWords();
  const canvas = useRef<HTMLCanvasElement>(null);
  const viewer = useRef<Viewer | null>(null);
  const [problem, setProblem] = useState('');
  const [loading, setLoading] = useState(true);
  useEffect(() => {
    try {
      viewer.current = new Viewer(canvas.current!, props.decoder);
    } catch {
      setProblem(t.noWebgl);
      return;
    }
    (canvas.current as unknown as { viewer: Viewer }).viewer = viewer.current;
    props.onViewer?.(viewer.current);
    return () => {
      props.onViewer?.(null);
      viewer.current?.dispose();
      viewer.current = null;
    };
  }, []);
  const [ready, setReady] = useState(0);
  useEffect(() => {
    let current = true;
    setLoading(true);
    setProblem('');
    viewer.current?.load(props.url).then(
      (loaded) => {
        if (!current) return;
        props.onLoaded?.(loaded);
        setLoading(false);
        setReady((n) => n + 1);
      },
      (error: unknown) => {
        if (!current) return;
        setLoading(false);
        setProblem(String(error));
      },
    );
    return () => void (current = false);
  }, [props.url]);
  useEffect(() => viewer.current?.setWeights(props.weights), [props.weights, ready]);
  useEffect(() => viewer.current?.setLight(props.tools.angle, props.tools.strength), [props.tools.angle, props.tools.strength]);
  useEffect(() => viewer.current?.setWires(props.tools.wires), [props.tools.wires, ready]);
  useEffect(() => {
    const [yaw, pitch, roll] = props.turn ?? [0, 0, 0];
    viewer.current?.setTurn(yaw, pitch, roll);
  }, [props.turn, ready]);
  useEffect(() => {
    if (!props.mask || !props.tools.inferred) {
      viewer.current?.setMask(null);
      return;
    }
    const picture = new Image();
    picture.onload = () => viewer.current?.setMask(picture);
    picture.src = props.mask;
    return () => void (picture.onload = null);
  }, [props.mask, props.tools.inferred, ready]);
  return (
    <div class="stage">
      <canvas ref={canvas} tabIndex={0} role="img" aria-label={`${props.label}. ${t.turnIt}`} data-ready={ready > 0 && !loading ? 'yes' : 'no'} />
      {loading && !problem && <p class="over">{t.loading} …</p>}
      {problem && <p class="over error" role="alert">{problem}</p>}
    </div>
  );
}

export function ToolBar(props: { tools: Tools; onChange: (tools: Tools) => void; onFront: () => void; mask: boolean }) {
  const t = useWords();
  const { tools, onChange } = props;
  return (
    <div class="tools" role="group" aria-label={t.light}>
      <Slider label={t.light} min={-3.14} max={3.14} value={tools.angle} show={`${Math.round((tools.angle * 180) / Math.PI)}°`} onChange={(angle) => onChange({ ...tools, angle })} />
      <Slider label={t.brightness} min={0.2} max={2} value={tools.strength} show={`${Math.round(tools.strength * 100)} %`} onChange={(strength) => onChange({ ...tools, strength })} />
      <label class="check"><input type="checkbox" checked={tools.wires} onChange={(e) => onChange({ ...tools, wires: e.currentTarget.checked })} /> {t.wires}</label>
      {props.mask && (
        <label class="check"><input type="checkbox" checked={tools.inferred} onChange={(e) => onChange({ ...tools, inferred: e.currentTarget.checked })} /> {t.inferred}</label>
      )}
      <button onClick={props.onFront}>{t.front}</button>
    </div>
  );
}

/** Sliders of the expressions that were made, then of the units. */
export function Sliders(props: { names: string[]; units: string[]; weights: Weights; onChange: (weights: Weights) => void }) {
  const t = useWords(), language = useLanguage();
  const [wanted, setWanted] = useState('');
  const units = props.names.filter((name) => props.units.includes(name));
  const expressions = props.names.filter((name) => !props.units.includes(name));
  const set = (name: string, value: number) => {
    const next = { ...props.weights };
    if (value) next[name] = value;
    else delete next[name];
    props.onChange(next);
  };
  const shown = units.filter((name) => name.toLowerCase().includes(wanted.trim().toLowerCase()));
  return (
    <section class="sliders">
      <div class="row">
        <h2>{t.expressions}</h2>
        <button onClick={() => props.onChange({})}>{t.rest}</button>
      </div>
      {expressions.map((name) => (
        <Slider key={name} label={expressionIn(language, name)} value={props.weights[name] ?? 0} onChange={(v) => set(name, v)} />
      ))}
      <details>
        <summary>{t.units}</summary>
        <input type="search" placeholder={t.search} aria-label={t.search} value={wanted} onInput={(e) => setWanted(e.currentTarget.value)} />
        {shown.map((name) => <Slider key={name} label={name} value={props.weights[name] ?? 0} onChange={(v) => set(name, v)} />)}
      </details>
    </section>
  );
}

/** Plays a recording: gives its weights and turns. */
export function Recordings(props: { units: string[]; onFrame: (weights: Weights, turn?: [number, number, number]) => void }) {
  const t = useWords();
  const [recording, setRecording] = useState<Recording | null>(null);
  const [playing, setPlaying] = useState(false);
  const [at, setAt] = useState(0);
  const [problem, setProblem] = useState('');
  const place = useRef(0);
  const isOpen = useRef(false);
  const show = (seconds: number) => {
    if (!recording || !isOpen.current) return;
    place.current = seconds;
    setAt(seconds);
    const frame = Math.min(recording.frames.length - 1, Math.floor((seconds / recording.seconds) * recording.frames.length));
    props.onFrame(recording.frames[frame]!, recording.turns?.[frame]);
  };
  useEffect(() => {
    if (!playing || !recording) return;
    let last = performance.now();
    let pending = requestAnimationFrame(function tick(now) {
      show((place.current + (now - last) / 1000) % recording.seconds);
      last = now;
      pending = requestAnimationFrame(tick);
    });
    return () => cancelAnimationFrame(pending);
  }, [playing, recording]);
  const open = async (file: File | undefined) => {
    if (!file) return;
    try {
      setRecording(readRecording(await file.text(), file.name, props.units));
      setProblem('');
      place.current = 0;
      isOpen.current = true;
      setPlaying(true);
    } catch {
      setRecording(null);
      setProblem(t.badRecording);
    }
  };
  const stop = () => {
    isOpen.current = false; // a frame may still be due
    setPlaying(false);
    setRecording(null);
    props.onFrame({});
  };
  return (
    <section>
      <h2>{t.recording}</h2>
      <label class="file"><input type="file" accept=".csv,text/csv" data-recording onChange={(e) => void open(e.currentTarget.files?.[0])} /><span>{t.recordingHint}</span></label>
      {problem && <p class="error" role="alert">{problem}</p>}
      {recording && (
        <>
          <p class="small">{recording.name}</p>
          <Slider label={t.recording} max={recording.seconds} value={at} show={t.seconds(at.toFixed(1))} onChange={(v) => { setPlaying(false); show(v); }} />
          <div class="row">
            <button onClick={() => setPlaying(!playing)}>{playing ? t.pause : t.play}</button>
            <button onClick={stop}>{t.stop}</button>
          </div>
        </>
      )}
    </section>
  );
}

