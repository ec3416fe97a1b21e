// The page's words in English and Japanese.

const EN = {
  tagline: 'One 3D face in, an avatar that can show any expression out.',
  newAvatar: 'New avatar', history: 'My avatars', historyEmpty: 'Nothing yet. What you make is listed here, for this browser only.',
  kept: (h: number) => `Scans and avatars stay on this server and are deleted after ${h} hours.`,
  theme: 'Light or dark', language: '日本語', consentFirst: 'Tick the box first: an avatar of a person needs that person’s yes.',
  consent: 'The person in this scan agrees to this avatar being made.',
  drop: 'Drop a scan here', orChoose: 'or choose files', formats: (f: string) => `${f}; for OBJ with textures or a depth frame, several files at once or a zip`,
  largest: (mb: number) => `up to ${mb} MB`, tooLarge: (mb: number) => `That is more than ${mb} MB; thin the scan first.`, madeUp: 'Try it with a made-up person', madeUpHint: 'drawn by the computer, seen by a simulated depth camera',
  person: 'Person no.', settings: 'Settings', expressions: 'Expressions', intensity: 'Intensity', seed: 'Seed',
  seedHint: 'another seed gives another variant of each expression', pipeline: 'Pipeline', unit: 'Unit of the scan', auto: 'automatic',
  surroundings: 'Hair and collar', keep: 'keep', dropThem: 'leave out', words: 'Expressions in words', wordsHint: 'e.g. slightly disgusted; one per line',
  noWords: 'This server has no text encoder: pip install ‘omote[text]’', uploading: 'Uploading', cancel: 'Cancel', remove: 'Delete',
  removeSure: 'Delete this avatar and its scan?', queued: 'Waiting', ahead: (n: number) => (n ? `${n} before it` : 'next'), again: 'Started again after its process ended',
  working: 'Working', failed: 'Not made', done: 'Done', gone: 'This avatar is no longer there: it was deleted, or is another browser’s.',
  read: 'What was read', turnIt: 'Drag to turn, wheel to zoom; arrow keys, + and −', mesh: 'mesh', points: 'points', frame: 'depth frame',
  nPoints: (n: string) => `${n} points`, nFaces: (n: string) => `${n} triangles`, color: 'with colour', noColor: 'without colour',
  found: 'Found', confidence: 'confidence', fit: 'fit', mouth: 'mouth', notes: 'Notes', source: 'source', images: 'As the networks see it',
  stages: 'Stages', landmarks: 'Show where the face is', landmarksStart: 'Click landmarks', landmarksHint: 'Turn the scan so that you see the face, then click the point that is asked for. Keyboard: turn with the arrow keys, Enter takes the point under the cross. Left and right are the person’s own.',
  undo: 'Undo', skip: 'Skip', goOn: 'Go on with these', need: (n: number) => `${n} more needed`, flip: 'Turn over', tryUnit: 'Or say its unit and try again', tryAgain: 'Try again',
  newFile: 'Another scan', seeAvatar: 'Avatar', light: 'Light', brightness: 'Brightness', wires: 'Wires', inferred: 'Not from the scan', front: 'Front',
  rest: 'At rest', units: '52 ARKit units', search: 'Find a unit', filter: 'find', variants: 'Variants', another: 'Another smile', anotherHint: 'the same scan with another seed, shown beside this one',
  makeThese: 'Make with these settings', beside: 'Beside it', nothingBeside: 'nothing', recording: 'Play a recording', recordingHint: 'ARKit CSV, as Live Link Face saves it', play: 'Play', pause: 'Pause',
  stop: 'Stop', badRecording: 'No ARKit units found: expected the CSV that Live Link Face saves', download: 'Download', sheet: 'Sheet', report: 'Report', offline: 'The server does not answer. Is it still running?',
  open: 'Open', percent: '%', noWebgl: 'This browser shows no 3D (WebGL 2 is needed).', license: 'Licences', seconds: (s: string) => `${s} s`, otherFile: 'Open another file', loading: 'Loading',
  agreed: 'Consent',
};
export type Words = typeof EN;

const JA: Words = {
  tagline: '3Dの顔をひとつ入れると、どんな表情もできるアバターになります。',
  newAvatar: '新しいアバター', history: '自分のアバター', historyEmpty: 'まだありません。作ったものがここに並びます(このブラウザだけ)。',
  kept: (h) => `スキャンとアバターはこのサーバーにだけ置かれ、${h}時間後に消されます。`,
  theme: '明るさの切り替え', language: 'English', consentFirst: '先にチェックを入れてください。アバターには本人の同意が必要です。',
  consent: 'このスキャンの本人は、アバターの作成に同意しています。',
  drop: 'スキャンをここにドロップ', orChoose: 'またはファイルを選ぶ', formats: (f) => `${f}。テクスチャ付きOBJや深度フレームは、複数のファイルをまとめて、またはzipで`,
  largest: (mb) => `${mb} MBまで`, tooLarge: (mb) => `${mb} MBを超えています。スキャンを間引いてください。`, madeUp: '架空の人で試す', madeUpHint: 'コンピューターが描き、深度カメラを模して撮った人',
  person: '人物番号', settings: '設定', expressions: '表情', intensity: '強さ', seed: 'シード', seedHint: 'シードを変えると、同じ表情でも別の出方になります', pipeline: '方式', unit: 'スキャンの単位', auto: '自動',
  surroundings: '髪と襟', keep: '残す', dropThem: '除く', words: '言葉での表情', wordsHint: '例:少し嫌そうな顔(1行にひとつ)',
  noWords: 'このサーバーには文章の読み取りがありません: pip install ‘omote[text]’', uploading: '送信中', cancel: '中止', remove: '削除',
  removeSure: 'このアバターとスキャンを削除しますか?', queued: '順番待ち', ahead: (n) => (n ? `前に${n}件` : '次です'), again: '処理が途切れたため、やり直しています',
  working: '作成中', failed: '作れませんでした', done: '完成', gone: 'このアバターはもうありません。削除されたか、別のブラウザのものです。',
  read: '読み込んだもの', turnIt: 'ドラッグで回転、ホイールで拡大。矢印キー、+、−でも', mesh: 'メッシュ', points: '点群', frame: '深度フレーム',
  nPoints: (n) => `${n}点`, nFaces: (n) => `三角形${n}個`, color: '色あり', noColor: '色なし',
  found: '見つかったもの', confidence: '確かさ', fit: '当てはめ', mouth: '口', notes: '注記', source: '入力', images: 'ネットワークから見た画像',
  stages: '工程', landmarks: '顔の位置を示す', landmarksStart: '特徴点をクリックする', landmarksHint: '顔が見えるようにスキャンを回し、求められた点をクリックしてください。キーボードでは矢印キーで回し、Enterで十字の下の点を取ります。左右は本人から見た左右です。',
  undo: '戻す', skip: '飛ばす', goOn: 'これで続ける', need: (n) => `あと${n}点`, flip: '裏返す', tryUnit: 'または単位を選んでやり直す', tryAgain: 'やり直す',
  newFile: '別のスキャン', seeAvatar: 'アバター', light: '光の向き', brightness: '光の強さ', wires: 'ワイヤー', inferred: 'スキャンにない所', front: '正面',
  rest: '真顔', units: 'ARKitの52ユニット', search: 'ユニットを探す', filter: '探す', variants: '別の出方', another: '別の笑い方', anotherHint: '同じスキャンを別のシードで作り、並べて表示します',
  makeThese: 'この設定で作る', beside: '並べる', nothingBeside: 'なし', recording: '記録を再生', recordingHint: 'ARKitのCSV(Live Link Faceが保存するもの)', play: '再生', pause: '一時停止',
  stop: '停止', badRecording: 'ARKitのユニットが見つかりません。Live Link FaceのCSVが必要です', download: 'ダウンロード', sheet: '一覧画像', report: 'レポート', offline: 'サーバーが応答しません。動いているか確かめてください。',
  open: '開く', percent: '%', noWebgl: 'このブラウザは3D表示(WebGL 2)ができません。', license: 'ライセンス', seconds: (s) => `${s}秒`, otherFile: '別のファイルを開く', loading: '読み込み中',
  agreed: '同意',
};

const EXPRESSIONS: Record<string, string> = { neutral: '真顔', happy: '喜び', sad: '悲しみ', angry: '怒り', surprised: '驚き', fearful: '恐れ', disgusted: '嫌悪' };
const STAGES: Record<string, [string, string]> = {
  capture: ['draw a person', '人物を描く'], read: ['read', '読み込み'], load: ['load', '準備'], align: ['find the face and fit the head', '顔を見つけて合わせる'],
  source: ['picture of the scan', 'スキャンの画像'], edit: ['generate expressions', '表情の生成'], lift: ['back to 3D', '3Dに戻す'],
  texture: ['texture', 'テクスチャ'], write: ['write', '書き出し'], sheet: ['sheet', '一覧画像'],
};

/** The points to click, by their number in the Multi-PIE order. */
export const LANDMARKS: [number, string, string][] = [
  [36, 'right eye, outer corner', '右目の目尻'], [39, 'right eye, inner corner', '右目の目頭'], [42, 'left eye, inner corner', '左目の目頭'],
  [45, 'left eye, outer corner', '左目の目尻'], [30, 'tip of the nose', '鼻の頭'], [33, 'base of the nose, above the lip', '鼻の付け根(唇の上)'],
  [31, 'right nostril, outer edge below', '右の小鼻の下'], [35, 'left nostril, outer edge below', '左の小鼻の下'], [48, 'right corner of the mouth', '右の口角'],
  [54, 'left corner of the mouth', '左の口角'], [51, 'upper lip, middle of its upper edge', '上唇の上端中央'], [57, 'lower lip, middle of its lower edge', '下唇の下端中央'], [8, 'chin, lowest point', '顎の先'],
  [27, 'bridge of the nose, between the eyes', '両目の間の鼻筋'], [21, 'right brow, inner end', '右眉の内側'], [22, 'left brow, inner end', '左眉の内側'],
  [17, 'right brow, outer end', '右眉の外側'], [26, 'left brow, outer end', '左眉の外側'],
];
export const LEAST_LANDMARKS = 12;

export type Language = 'en' | 'ja';
export const wordsOf = (language: Language): Words => (language === 'ja' ? JA : EN);
export const expressionIn = (language: Language, name: string): string => (language === 'ja' ? (EXPRESSIONS[name] ?? name) : name);
export const stageIn = (language: Language, name: string): string => STAGES[name]?.[language === 'ja' ? 1 : 0] ?? name;
