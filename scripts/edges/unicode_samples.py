"""A few letters of every script that Unicode 14 has letters of, to be asked about."""

from __future__ import annotations

import unicodedata

#: Script and the first of some letters of it that stand in a row, in hexadecimal.
_FIRST = """
Adlam 1E900, Ahom 11700, Anatolian Hieroglyphs 14400, Arabic 627, Armenian 561, Avestan 10B00, Balinese 1B05, Bamum
A6A0, Bassa Vah 16AD0, Batak 1BC0, Bengali 985, Bhaiksuki 11C00, Bopomofo 3105, Brahmi 11003, Buginese 1A00, Buhid
1740, Canadian Aboriginal 1401, Carian 102A0, Caucasian Albanian 10530, Chakma 11103, Cham AA00, Cherokee 13A0,
Chorasmian 10FB0, Han 4E00, Coptic 2C80, Cuneiform 12000, Cypriot 10800, Cypro-Minoan 12F90, Cyrillic 430, Deseret
10400, Devanagari 904, Dives Akuru 11900, Dogra 11800, Duployan 1BC00, Egyptian Hieroglyphs 13000, Elbasan 10500,
Elymaic 10FE0, Ethiopic 1200, Georgian 10A0, Glagolitic 2C00, Gothic 10330, Grantha 11305, Greek 3B1, Gujarati A85,
Gunjala Gondi 11D60, Gurmukhi A05, Hangul AC00, Hanifi Rohingya 10D00, Hanunoo 1720, Hatran 108E0, Hebrew 5D0,
Hiragana 3041, Imperial Aramaic 10840, Inscriptional Pahlavi 10B60, Inscriptional Parthian 10B40, Javanese A984,
Kaithi 11083, Kannada C85, Katakana 30A1, Kayah Li A90A, Kharoshthi 10A19, Khitan Small Script 18B00, Khmer 1780,
Khojki 11200, Khudawadi 112B0, Lao E8C, Latin 61, Lepcha 1C00, Limbu 1900, Linear A 10600, Linear B 10000, Lisu
A4D0, Lycian 10280, Lydian 10920, Mahajani 11150, Makasar 11EE0, Malayalam D04, Mandaic 840, Manichaean 10AC0,
Marchen 11C72, Masaram Gondi 11D00, Medefaidrin 16E40, Meetei Mayek AAE0, Mende Kikakui 1E800, Meroitic Cursive
109A0, Meroitic Hieroglyphic 10980, Miao 16F00, Modi 11600, Mongolian 1820, Mro 16A40, Multani 11280, Myanmar 1000,
Nabataean 10880, Nandinagari 119A0, New Tai Lue 1980, Newa 11400, N'Ko 7CA, Nushu 1B170, Nyiakeng Puachue Hmong
1E100, Ogham 1681, Ol Chiki 1C5A, Old Hungarian 10C80, Old Italic 10300, Old North Arabian 10A80, Old Permic 10350,
Old Persian 103A0, Old Sogdian 10F00, Old South Arabian 10A60, Old Turkic 10C00, Old Uyghur 10F70, Oriya B05, Osage
104B0, Osmanya 10480, Pahawh Hmong 16B00, Palmyrene 10860, Pau Cin Hau 11AC0, Phags-Pa A840, Phoenician 10900,
Psalter Pahlavi 10B80, Rejang A930, Runic 16A0, Samaritan 800, Saurashtra A882, Sharada 11183, Shavian 10450,
Siddham 11580, Sinhala D85, Sogdian 10F30, Sora Sompeng 110D0, Soyombo 11A5C, Sundanese 1B83, Syloti Nagri A80C,
Syriac 712, Tagalog 1700, Tagbanwa 1760, Tai Le 1950, Tai Tham 1A20, Tai Viet AA80, Takri 11680, Tamil B85, Tangsa
16A70, Tangut 18800, Telugu C05, Thaana 780, Thai E01, Tibetan F40, Tifinagh 2D30, Tirhuta 11480, Toto 1E290,
Ugaritic 10380, Vai A500, Vithkuqi 10570, Wancho 1E2C0, Warang Citi 118A0, Yezidi 10E80, Yi A000, Zanabazar Square
11A0B
"""
_ROW, _LETTERS = 16, 6


def samples() -> dict[str, str]:
    """Script -> six letters of it; fewer where not so many stand in a row."""
    found = {}
    for entry in " ".join(_FIRST.split()).split(", "):
        script, _, first = entry.rpartition(" ")
        row = map(chr, range(int(first, 16), int(first, 16) + _ROW))
        found[script] = "".join([letter for letter in row if unicodedata.category(letter)[0] == "L"][:_LETTERS])
    return found
