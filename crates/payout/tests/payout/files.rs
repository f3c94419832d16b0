//! The file by its own reader: what it says, and what it refuses although a schema may let it pass.

use crate::{batch, payables, payee, spec};
use caii_payout::pain001::{self, FileError};
use caii_payout::{Batch, BatchSpec, Currency, IbanError, MinorUnits};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn the_file_is_this() {
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09">
  <CstmrCdtTrfInitn>
    <GrpHdr>
      <MsgId>abababababababab-7</MsgId>
      <CreDtTm>2026-11-24T21:07:26Z</CreDtTm>
      <NbOfTxs>2</NbOfTxs>
      <CtrlSum>21.23</CtrlSum>
      <InitgPty>
        <Nm>Pool e.V.</Nm>
      </InitgPty>
    </GrpHdr>
    <PmtInf>
      <PmtInfId>abababababababab-7</PmtInfId>
      <PmtMtd>TRF</PmtMtd>
      <NbOfTxs>2</NbOfTxs>
      <CtrlSum>21.23</CtrlSum>
      <PmtTpInf>
        <SvcLvl>
          <Cd>SEPA</Cd>
        </SvcLvl>
      </PmtTpInf>
      <ReqdExctnDt>
        <Dt>2026-11-26</Dt>
      </ReqdExctnDt>
      <Dbtr>
        <Nm>Pool e.V.</Nm>
      </Dbtr>
      <DbtrAcct>
        <Id>
          <IBAN>DE02120300000000202051</IBAN>
        </Id>
      </DbtrAcct>
      <DbtrAgt>
        <FinInstnId>
          <BICFI>BYLADEM1001</BICFI>
        </FinInstnId>
      </DbtrAgt>
      <ChrgBr>SLEV</ChrgBr>
      <CdtTrfTxInf>
        <PmtId>
          <EndToEndId>abababababababab-7-1</EndToEndId>
        </PmtId>
        <Amt>
          <InstdAmt Ccy="EUR">20.00</InstdAmt>
        </Amt>
        <CdtrAgt>
          <FinInstnId>
            <BICFI>DEUTDEFF</BICFI>
          </FinInstnId>
        </CdtrAgt>
        <Cdtr>
          <Nm>Alice (Lab), c/o A.</Nm>
        </Cdtr>
        <CdtrAcct>
          <Id>
            <IBAN>DE89370400440532013000</IBAN>
          </Id>
        </CdtrAcct>
        <RmtInf>
          <Ustrd>Computing, November 2026</Ustrd>
        </RmtInf>
      </CdtTrfTxInf>
      <CdtTrfTxInf>
        <PmtId>
          <EndToEndId>abababababababab-7-2</EndToEndId>
        </PmtId>
        <Amt>
          <InstdAmt Ccy="EUR">1.23</InstdAmt>
        </Amt>
        <Cdtr>
          <Nm>Carol O&apos;Hara</Nm>
        </Cdtr>
        <CdtrAcct>
          <Id>
            <IBAN>NL91ABNA0417164300</IBAN>
          </Id>
        </CdtrAcct>
        <RmtInf>
          <Ustrd>Computing, November 2026</Ustrd>
        </RmtInf>
      </CdtTrfTxInf>
    </PmtInf>
  </CstmrCdtTrfInitn>
</Document>
"#;
    let written = pain001::write(&batch()).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}

/// The file with one text replaced, everywhere or once.
fn changed(from: &str, to: &str) -> Result<pain001::File, FileError> {
    let good = String::from_utf8(pain001::write(&batch()).unwrap()).unwrap();
    assert!(good.contains(from), "{from}");
    pain001::read(good.replacen(from, to, 1).as_bytes())
}

#[test]
fn what_has_no_place_in_a_file_is_refused() {
    let forbidden = |what| Err(FileError::Forbidden(what));
    let unexpected = |what: &str| Err(FileError::Unexpected(what.into()));
    assert_eq!(changed("<Document", "<!DOCTYPE Document><Document"), forbidden("a document type"));
    let entity = "<!DOCTYPE Document [<!ENTITY a \"1\">]><Document";
    assert_eq!(changed("<Document", entity), forbidden("a document type"));
    assert_eq!(changed("<GrpHdr>", "<!-- --><GrpHdr>"), forbidden("a comment"));
    assert_eq!(changed("<GrpHdr>", "<?php ?><GrpHdr>"), forbidden("a processing instruction"));
    assert_eq!(changed(">TRF<", "><![CDATA[TRF]]><"), forbidden("a CDATA section"));
    assert_eq!(changed("O&apos;H", "O&evil;H"), forbidden("an entity"));
    assert_eq!(changed("<MsgId>", "<MsgId/><MsgId>"), forbidden("an empty element"));
    assert_eq!(changed("</Document>", "</Document><Document/>"), forbidden("an empty element"));
    assert_eq!(changed("</Document>", "</Document><Document></Document>"), forbidden("a second root"));
    assert_eq!(changed("</Document>", "</Document>x"), forbidden("text outside of its root"));
    assert_eq!(changed(".09\">", ".08\">"), unexpected("Document"));
    assert_eq!(changed("<Document", "<Document a=\"1\""), unexpected("Document/@a"));
    assert_eq!(changed("<GrpHdr>", "<GrpHdr>x"), unexpected("Document/CstmrCdtTrfInitn/GrpHdr"));
    assert_eq!(changed("</GrpHdr>", "x</GrpHdr>"), unexpected("Document/CstmrCdtTrfInitn/GrpHdr"));
    let twice = changed("<PmtMtd>", "<PmtMtd>TRF</PmtMtd><PmtMtd>");
    assert_eq!(twice, unexpected("Document/CstmrCdtTrfInitn/PmtInf/PmtMtd"));
    let block = changed("</PmtInf>", "</PmtInf><PmtInf></PmtInf>");
    assert_eq!(block, unexpected("Document/CstmrCdtTrfInitn/PmtInf"));
    let other = changed("<RmtInf>", "<UltmtCdtr><Nm>Mallory</Nm></UltmtCdtr><RmtInf>");
    assert_eq!(other, unexpected("Document/CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf/UltmtCdtr/Nm"));
    assert!(matches!(changed("</Document>", ""), Err(FileError::Malformed(_))));
    assert!(matches!(changed("</GrpHdr>", "</Grp>"), Err(FileError::Malformed(_))));
    assert!(matches!(pain001::read(b"\xff"), Err(FileError::Malformed(_))));
    assert!(matches!(pain001::read(b""), Err(FileError::Malformed(_))));
    let large = vec![b' '; pain001::SIZE_MAX + 1];
    assert_eq!(pain001::read(&large), Err(FileError::TooLarge { found: large.len() }));
}

#[test]
fn counts_sums_and_bank_details_are_checked_again() {
    assert_eq!(changed("<NbOfTxs>2<", "<NbOfTxs>3<"), Err(FileError::Count { stated: 3, counted: 2 }));
    let sum = |stated: &str| Err(FileError::Sum { stated: stated.into(), summed: "21.23".into() });
    assert_eq!(changed("<CtrlSum>21.23<", "<CtrlSum>21.24<"), sum("21.24"));
    assert_eq!(changed("<CtrlSum>21.23<", "<CtrlSum>21.230<"), sum("21.230"));
    let summed = FileError::Sum { stated: "21.23".into(), summed: "31.23".into() };
    assert_eq!(changed("EUR\">20.00<", "EUR\">30.00<"), Err(summed));
    let iban = changed("DE89370400440532013000", "DE89370400440532013001");
    let expected = FileError::Iban { found: "DE89370400440532013001".into(), source: IbanError::CheckDigits };
    assert_eq!(iban, Err(expected));
    assert!(matches!(changed("DE8937", "DE89 37"), Err(FileError::Iban { .. })), "one form of each");
    let twice = changed("-7-2<", "-7-1<");
    assert_eq!(twice, Err(FileError::Twice("abababababababab-7-1".into())));
    let missing = changed("<EndToEndId>abababababababab-7-1</EndToEndId>", "");
    assert!(missing.is_err(), "{missing:?}");
    let value = |element, found: &str| Err(FileError::Value { element, found: found.into() });
    assert_eq!(changed("DEUTDEFF", "DEUTDEF"), value("CdtrAgt/FinInstnId/BICFI", "DEUTDEF"));
    assert_eq!(changed("\"EUR\">1.23", "\"SEK\">1.23"), value("Ccy", "SEK"));
    assert_eq!(changed("\"EUR\">20.00", "\"XXX\">20.00"), value("Ccy", "XXX"));
    assert_eq!(changed(">20.00<", ">20.0<"), value("Amt/InstdAmt", "20.0"));
    assert_eq!(changed(">20.00<", ">0.00<"), value("Amt/InstdAmt", "0.00"));
    assert_eq!(changed(">20.00<", ">-20.00<"), value("Amt/InstdAmt", "-20.00"));
    assert_eq!(changed("Alice (Lab)", "Alice ü"), value("Cdtr/Nm", "Alice ü, c/o A."));
    assert_eq!(changed(">SLEV<", ">DEBT<"), value("PmtInf/ChrgBr", "DEBT"));
    assert_eq!(changed("<Cd>SEPA<", "<Cd>URGP<"), value("PmtInf/PmtTpInf/SvcLvl/Cd", "URGP"));
}

/// In order, and still not the batch.
#[test]
fn a_file_must_be_its_batchs() {
    let good = String::from_utf8(pain001::write(&batch()).unwrap()).unwrap();
    let differs = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        pain001::check(good.replace(from, to).as_bytes(), &batch()).unwrap_err()
    };
    assert_eq!(differs("DE89370400440532013000", "DE02120300000000202051"), FileError::Differs("payee of a payment"));
    assert_eq!(differs("Carol", "Mallory"), FileError::Differs("payee of a payment"));
    assert_eq!(differs("Computing", "Commuting"), FileError::Differs("text of a payment"));
    assert_eq!(differs("2026-11-26", "2026-11-27"), FileError::Differs("day"));
    assert_eq!(differs("T21:07", "T21:08"), FileError::Differs("time"));
    assert_eq!(differs("b-7<", "b-8<"), FileError::Differs("message"));
    assert_eq!(differs("b-7-2<", "b-7-3<"), FileError::Differs("identifier of a payment"));
    assert_eq!(differs("BYLADEM1001", "BYLADEM1002"), FileError::Differs("debtor"));
    assert_eq!(
        differs("\"EUR\"", "\"GBP\""),
        FileError::Value { element: "PmtInf/PmtTpInf/SvcLvl/Cd", found: "SEPA".into() }
    );
    // The same sum, shared out otherwise.
    let moved = good.replace(">20.00<", ">20.01<").replace(">1.23<", ">1.22<");
    let error = pain001::check(moved.as_bytes(), &batch()).unwrap_err();
    assert_eq!(error, FileError::Differs("amount of a payment"));
}

#[test]
fn other_currencies_are_no_sepa_payments() {
    let spec = BatchSpec { currency: Currency::Isk, debtor: payee("P", "IS140159260076545510730339", None), ..spec() };
    let batch = Batch::new(spec, &payables(), &BTreeSet::new()).unwrap();
    let file = pain001::read(&pain001::write(&batch).unwrap()).unwrap();
    assert_eq!((file.currency, file.total), (Currency::Isk, MinorUnits(2_123)));
    let text = String::from_utf8(pain001::write(&batch).unwrap()).unwrap();
    assert!(text.contains("<InstdAmt Ccy=\"ISK\">2000</InstdAmt>") && text.contains("NOTPROVIDED"), "{text}");
    assert!(!text.contains("SEPA"));
}

proptest! {
    /// Whatever bytes: a file or an error, never a panic.
    #[test]
    fn the_reader_takes_anything(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(pain001::read(&bytes).is_err());
    }

    /// A file that is cut, or has bytes changed, is refused or is one that says something in order.
    #[test]
    fn damaged_files_do_not_pass_for_the_batch(at: prop::sample::Index, byte: u8, cut: bool) {
        let mut bytes = pain001::write(&batch()).unwrap();
        let at = at.index(bytes.len() - 1);
        let before = bytes[at];
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(file) = pain001::check(&bytes, &batch()) {
            // Only what is no content: indentation, the declaration, a quotation mark for another.
            prop_assert!(!cut || at > 2_000);
            prop_assert!(cut || byte == before || !before.is_ascii_alphanumeric() || at < 40, "{} {}", before, byte);
            prop_assert_eq!(file.total, MinorUnits(2_123));
        }
    }
}
