"""The words by which columns are recognised, in the languages of exports: data, not logic."""

from __future__ import annotations

__all__ = [
    "ANGLES",
    "BESIDE_MACHINE",
    "CALENDAR",
    "COUNTERS",
    "EPOCHS",
    "LABELS",
    "MACHINES",
    "POINTS",
    "QUALITIES",
    "QUALITY_VALUES",
    "QUANTITIES",
    "READ_VALUES",
    "SEGMENTS",
    "STATES",
    "SURE_QUALITY_VALUES",
    "SURE_TIMES",
    "TIMES",
    "TOTALS",
    "UNITS",
    "UNIT_SUFFIXES",
    "ZONES",
]


def _set(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


SURE_TIMES = _set("timestamp ts datetime zeitstempel horodatage")
TIMES = SURE_TIMES | _set(
    "time date zeit datum zeitpunkt fecha hora tijd tijdstip uhrzeit heure tempo ora czas čas",
    "日時 日付 時刻 時間 时间 日期 시간 날짜 일시 время дата",
)
ZONES = _set(
    "tz timezone tzname tzoffset tzinfo zone zeitzone utcoffset gmtoffset offset utc gmt fuseau huso fusorario",
    "タイムゾーン 时区 시간대",
)
EPOCHS = TIMES | _set("epoch unix t")
MACHINES = _set(
    "machine maschine unit asset device gerät geraet equipment turbine engine pump pumpe line linie robot",
    "anlage aggregat station plant compressor kompressor motor press presse furnace ofen reactor reaktor",
    "well site standort werk facility machineid unitid assetid deviceid equipmentid",
    "設備 機械 号機 装置 设备 机器 설비 máquina macchina",
)
BESIDE_MACHINE = _set("id no nr num number name key code tag serial sn")
POINTS = _set(
    "tag tagname tagid sensor sensorid signal signalname variable varname parameter point pointid pointname channel",
    "metric attribute item itemid itemname series reihe alias field kks messstelle kanal kanalname signalbezeichnung",
    "param node nodeid loop serie etiqueta señal variabile",
    "propertyalias messpunkt messgröße messgroesse quantity measurand ポイント タグ タグ名 測定点 信号名",
)
READ_VALUES = _set(
    "value val wert reading measurement messwert v varvalue values float vvalue valeur valor valore mean avg pv",
    "floatvalue intvalue doublevalue numvalue numericvalue realvalue analogvalue",
    "値 計測値 測定値 数值 测量值 값",
)
ANGLES = _set(
    "angle angles winkel deg degree degrees grad azimuth azimut heading bearing direction dir wd winddir richtung",
    "windrichtung kurs course rad radian radians gon yaw orientation phase phi theta 角度 風向 方位",
)
QUALITIES = _set(
    "quality qual qualität qualitaet qualitydetail opcquality validity valid gültigkeit güte guete qds qos 品質",
    "dataintegrity",
    "qualité qualite calidad qualità qualita kvalitet 质量 품질",
)
SURE_QUALITY_VALUES = _set(
    "good bad uncertain questionable gut schlecht unsicher bon bonne mauvais mauvaise bueno malo buono cattivo",
    "不良 良 好 坏",
)
QUALITY_VALUES = _set(
    "good bad uncertain ok valid invalid questionable substituted doubtful suspect stale gut schlecht unsicher",
    "bon bonne mauvais mauvaise douteux douteuse bueno malo incierto buono cattivo incerto 好 坏 差",
    "ungültig gültig normal error fail failed comm_fail timeout g b u true false 正常 異常 不良 良 無効 有効",
)
STATES = _set(
    "running stopped run stop on off idle standby open closed opened close auto automatic manual fault alarm ready",
    "starting stopping active inactive enabled disabled start maintenance service ok heating cooling pause paused hold",
    "an aus ein läuft steht gestoppt betrieb stillstand bereit störung wartung hand automatik offen geschlossen zu",
    "運転 停止 運転中 停止中 待機 手動 自動 点検 開 閉 オン オフ",
    "marche arrêt arret producing loaded unloaded load unload",
)
CALENDAR = _set(
    "year month day hour minute second week weekday quarter jahr monat stunde minute sekunde woche wochentag",
    "of in the",
)
SEGMENTS = _set(
    "recipe rezept rezeptur product produkt material grade sorte mode modus betriebsart phase program",
    "programm step schritt stage process prozess regime campaign sku article artikel formula lastfall",
)
LABELS = _set(
    "anomaly anomalies anomalous label labels changepoint fault faults faulty failure failures failed target",
    "class outlier outliers attack defect defective groundtruth truth worn fehler störung rul normal",
    "abnormal split fold",
)
COUNTERS = _set("id index idx row rows counter count nr no number num seq sequence sample udi zähler")
TOTALS = _set(
    "total totaliser totalizer totals sum energy kwh mwh counter count pulses zähler zählerstand summe menge energie",
    "compteur contador contatore 積算 累计 累積",
)
QUANTITIES = _set(
    "temperature temp pressure press flow speed velocity level voltage current power torque force position",
    "feedrate setpoint weight mass frequency rate humidity density viscosity concentration angle distance",
    "opening druck temperatur durchfluss drehzahl strom spannung leistung kraft feuchte niveau",
    "füllstand",
)
UNITS = _set(
    "°C °F K C F bar mbar Pa hPa kPa MPa psi % V mV kV A mA kA W kW MW kWh MWh VA kVA var Hz kHz MHz rpm",
    "1/min U/min min⁻¹ m/s mm/s m/s² g l/min L/min l/h m³/h m3/h l/s kg/h kg/s t/h Nm N kN mm cm m µm um km",
    "℃ ℉ K/min L/h L/s Nm³/h m³ m3 ㎥/h Nl/min mol/h kPa(a) kPa(g) bar(a) bar(g) barg bara kcal GJ MJ MWh/d",
    "s ms min h kg t mg ppm ppb mg/m³ mg/m3 Ω Ohm kΩ dB pH lx J kJ mS/cm µS/cm g/l mol/l °",
)
UNIT_SUFFIXES = {
    "degc": "°C", "deg_c": "°C", "celsius": "°C", "degf": "°F", "deg_f": "°F", "fahrenheit": "°F",
    "kelvin": "K", "bar": "bar", "mbar": "mbar", "hpa": "hPa", "kpa": "kPa", "psi": "psi", "pct": "%",
    "percent": "%", "volt": "V", "volts": "V", "ampere": "A", "amps": "A", "kw": "kW", "kwh": "kWh",
    "watt": "W", "watts": "W", "hz": "Hz", "khz": "kHz", "rpm": "rpm", "l_min": "l/min", "l_h": "l/h",
    "l_s": "l/s", "m3_h": "m³/h", "m_s": "m/s", "mm_s": "mm/s", "kg_h": "kg/h", "kg_s": "kg/s", "ppm": "ppm",
    "mm": "mm", "kg": "kg",
}  # fmt: skip
