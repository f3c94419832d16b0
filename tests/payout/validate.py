"""Validates payment files by the schema of ISO 20022.

Reads documents from standard input, each ended by a zero byte, and writes a line for each: `valid`, or what is wrong.
"""

import sys
from pathlib import Path

import sepaxml
from lxml import etree

schema = etree.XMLSchema(etree.parse(Path(sepaxml.__file__).parent / "schemas" / "pain.001.001.09.xsd"))
parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
for document in sys.stdin.buffer.read().split(b"\0")[:-1]:
    schema.validate(etree.fromstring(document, parser))
    faults = [entry.message.replace("\n", " ") for entry in schema.error_log]
    print("; ".join(faults) or "valid")
