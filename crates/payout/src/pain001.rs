//! The customer credit transfer of ISO 20022, pain.001.001.09: writing it, and reading it again before it is approved.
//!
//! The reader knows exactly the elements that the writer writes. It counts and sums for itself, checks every IBAN once
//! more, and refuses what has no business in such a file: document types, entities, comments, other namespaces.

use crate::{Batch, Bic, BicError, Currency, CurrencyUnknown, Iban, IbanError, MinorUnits, SepaText, TextError};
use caii_trust::format_time;
use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use quick_xml::writer::Writer;
use std::collections::BTreeSet;
use thiserror::Error;

const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09";
/// Where a bank is named that is not known: the agreed word of SEPA's guidelines.
const NOT_PROVIDED: &str = "NOTPROVIDED";
/// Bytes of a file that are read: a batch of the largest size is within it.
pub const SIZE_MAX: usize = 16 << 20;

/// Why a file is not one that can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// It is larger than [`SIZE_MAX`].
    #[error("the file has {found} bytes; at most {SIZE_MAX} are read")]
    TooLarge {
        /// Its bytes.
        found: usize,
    },
    /// It is not well-formed XML in UTF-8.
    #[error("the file is not well-formed: {0}")]
    Malformed(String),
    /// It has something that no payment file needs.
    #[error("the file has {0}, which has no place in it")]
    Forbidden(&'static str),
    /// An element, attribute or text stands where none is expected.
    #[error("`{0}` is not expected in the file")]
    Unexpected(String),
    /// An element is missing.
    #[error("`{0}` is missing from the file")]
    Missing(&'static str),
    /// An element's value is wrong.
    #[error("`{found}` is no value for `{element}`")]
    Value {
        /// Which.
        element: &'static str,
        /// What it holds.
        found: String,
    },
    /// An IBAN is wrong.
    #[error("the IBAN `{found}` is wrong: {source}")]
    Iban {
        /// What stands there.
        found: String,
        /// Why.
        #[source]
        source: IbanError,
    },
    /// The number of payments is not what is stated.
    #[error("the file states {stated} payments and has {counted}")]
    Count {
        /// What it states.
        stated: u64,
        /// What it has.
        counted: u64,
    },
    /// The sum of payments is not what is stated.
    #[error("the file states a sum of {stated} and has {summed}")]
    Sum {
        /// What it states.
        stated: String,
        /// What it has.
        summed: String,
    },
    /// Two payments have one identifier.
    #[error("two payments have the identifier `{0}`")]
    Twice(String),
    /// It is in order, but not the batch's.
    #[error("the file does not say what the batch does: {0} differs")]
    Differs(&'static str),
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its identifier.
    pub message_id: String,
    /// When it was made.
    pub created: String,
    /// On which day it is to be paid.
    pub execution: String,
    /// Who pays.
    pub debtor: Party,
    /// In which currency.
    pub currency: Currency,
    /// What is paid.
    pub payments: Vec<FilePayment>,
    /// All of it together.
    pub total: MinorUnits,
}

/// A holder of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Its name.
    pub name: SepaText,
    /// The account.
    pub iban: Iban,
    /// Its bank.
    pub bic: Option<Bic>,
}

/// One payment of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePayment {
    /// Its identifier.
    pub end_to_end: String,
    /// How much.
    pub amount: MinorUnits,
    /// To whom.
    pub creditor: Party,
    /// What the creditor reads.
    pub remittance: SepaText,
}

/// The batch as a file, which was read again and says what the batch does.
///
/// # Errors
/// If it does not: a fault of this crate, caught before the file leaves it.
pub fn write(batch: &Batch) -> Result<Vec<u8>, FileError> {
    let bytes = write_unchecked(batch);
    check(&bytes, batch)?;
    Ok(bytes)
}

/// Reads the file and compares it with the batch.
///
/// # Errors
/// If the file is not in order, or says something else.
pub fn check(bytes: &[u8], batch: &Batch) -> Result<File, FileError> {
    let file = read(bytes)?;
    let spec = &batch.spec;
    let same = |field, same: bool| if same { Ok(()) } else { Err(FileError::Differs(field)) };
    let party = |party: &Party, payee: &crate::Payee| {
        (&party.name, &party.iban, &party.bic) == (&payee.name, &payee.iban, &payee.bic)
    };
    same("message", file.message_id == spec.message_id())?;
    same("time", file.created == format_time(spec.created))?;
    same("day", file.execution == format_time(spec.execution)[..10])?;
    same("debtor", party(&file.debtor, &spec.debtor))?;
    same("currency", file.currency == spec.currency)?;
    same("total", file.total == batch.total)?;
    same("number of payments", file.payments.len() == batch.payments.len())?;
    for (written, payment) in file.payments.iter().zip(&batch.payments) {
        same("identifier of a payment", written.end_to_end == payment.end_to_end)?;
        same("amount of a payment", written.amount == payment.amount)?;
        same("payee of a payment", party(&written.creditor, &payment.payee))?;
        same("text of a payment", written.remittance == spec.remittance)?;
    }
    Ok(file)
}

/// Writes elements into memory, where writing cannot fail.
struct Xml(Writer<Vec<u8>>);

impl Xml {
    fn event(&mut self, event: Event<'_>) {
        self.0.write_event(event).expect("a vector takes all that is written to it");
    }

    fn within(&mut self, name: &'static str, content: impl FnOnce(&mut Self)) {
        self.start(BytesStart::new(name), name, content);
    }

    fn start(&mut self, start: BytesStart<'_>, name: &'static str, content: impl FnOnce(&mut Self)) {
        self.event(Event::Start(start));
        content(self);
        self.event(Event::End(BytesEnd::new(name)));
    }

    fn leaf(&mut self, name: &'static str, text: &str) {
        self.within(name, |xml| xml.event(Event::Text(BytesText::new(text))));
    }

    fn account(&mut self, name: &'static str, iban: &Iban) {
        self.within(name, |xml| xml.within("Id", |xml| xml.leaf("IBAN", iban.as_str())));
    }

    fn bank(&mut self, name: &'static str, bic: &Bic) {
        self.within(name, |xml| xml.within("FinInstnId", |xml| xml.leaf("BICFI", bic.as_str())));
    }
}

fn write_unchecked(batch: &Batch) -> Vec<u8> {
    let spec = &batch.spec;
    let (count, sum) = (batch.payments.len().to_string(), spec.currency.write(batch.total));
    let mut xml = Xml(Writer::new_with_indent(Vec::new(), b' ', 2));
    xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
    let root = BytesStart::new("Document").with_attributes([("xmlns", NAMESPACE)]);
    xml.start(root, "Document", |xml| {
        xml.within("CstmrCdtTrfInitn", |xml| {
            xml.within("GrpHdr", |xml| {
                xml.leaf("MsgId", &spec.message_id());
                xml.leaf("CreDtTm", &format_time(spec.created));
                xml.leaf("NbOfTxs", &count);
                xml.leaf("CtrlSum", &sum);
                xml.within("InitgPty", |xml| xml.leaf("Nm", spec.debtor.name.as_str()));
            });
            xml.within("PmtInf", |xml| {
                xml.leaf("PmtInfId", &spec.message_id());
                xml.leaf("PmtMtd", "TRF");
                xml.leaf("NbOfTxs", &count);
                xml.leaf("CtrlSum", &sum);
                if spec.currency == Currency::Eur {
                    xml.within("PmtTpInf", |xml| xml.within("SvcLvl", |xml| xml.leaf("Cd", "SEPA")));
                }
                xml.within("ReqdExctnDt", |xml| xml.leaf("Dt", &format_time(spec.execution)[..10]));
                xml.within("Dbtr", |xml| xml.leaf("Nm", spec.debtor.name.as_str()));
                xml.account("DbtrAcct", &spec.debtor.iban);
                match &spec.debtor.bic {
                    Some(bic) => xml.bank("DbtrAgt", bic),
                    None => xml.within("DbtrAgt", |xml| {
                        xml.within("FinInstnId", |xml| xml.within("Othr", |xml| xml.leaf("Id", NOT_PROVIDED)));
                    }),
                }
                xml.leaf("ChrgBr", "SLEV");
                for payment in &batch.payments {
                    xml.within("CdtTrfTxInf", |xml| write_payment(xml, batch, payment));
                }
            });
        });
    });
    let mut bytes = xml.0.into_inner();
    bytes.push(b'\n');
    bytes
}

fn write_payment(xml: &mut Xml, batch: &Batch, payment: &crate::Payment) {
    let currency = batch.spec.currency;
    xml.within("PmtId", |xml| xml.leaf("EndToEndId", &payment.end_to_end));
    xml.within("Amt", |xml| {
        let amount = BytesStart::new("InstdAmt").with_attributes([("Ccy", currency.code())]);
        xml.start(amount, "InstdAmt", |xml| xml.event(Event::Text(BytesText::new(&currency.write(payment.amount)))));
    });
    if let Some(bic) = &payment.payee.bic {
        xml.bank("CdtrAgt", bic);
    }
    xml.within("Cdtr", |xml| xml.leaf("Nm", payment.payee.name.as_str()));
    xml.account("CdtrAcct", &payment.payee.iban);
    xml.within("RmtInf", |xml| xml.leaf("Ustrd", batch.spec.remittance.as_str()));
}

/// An element without elements in it.
struct Leaf {
    /// From the root, names joined by `/`.
    path: String,
    text: String,
    currency: Option<String>,
}

const PAYMENT_INFO: &str = "Document/CstmrCdtTrfInitn/PmtInf";
const PAYMENT: &str = "Document/CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf";

/// The elements that the writer writes, and whether they may be there once in a file or once in a payment.
const FILE_LEAVES: [&str; 16] = [
    "GrpHdr/MsgId",
    "GrpHdr/CreDtTm",
    "GrpHdr/NbOfTxs",
    "GrpHdr/CtrlSum",
    "GrpHdr/InitgPty/Nm",
    "PmtInf/PmtInfId",
    "PmtInf/PmtMtd",
    "PmtInf/NbOfTxs",
    "PmtInf/CtrlSum",
    "PmtInf/PmtTpInf/SvcLvl/Cd",
    "PmtInf/ReqdExctnDt/Dt",
    "PmtInf/Dbtr/Nm",
    "PmtInf/DbtrAcct/Id/IBAN",
    "PmtInf/DbtrAgt/FinInstnId/BICFI",
    "PmtInf/DbtrAgt/FinInstnId/Othr/Id",
    "PmtInf/ChrgBr",
];
const PAYMENT_LEAVES: [&str; 6] =
    ["PmtId/EndToEndId", "Amt/InstdAmt", "CdtrAgt/FinInstnId/BICFI", "Cdtr/Nm", "CdtrAcct/Id/IBAN", "RmtInf/Ustrd"];

/// Elements of one kind, each at most once.
struct Found<const N: usize> {
    names: [&'static str; N],
    texts: [Option<String>; N],
}

impl<const N: usize> Found<N> {
    fn new(names: [&'static str; N]) -> Self {
        Self { names, texts: [const { None }; N] }
    }

    fn put(&mut self, name: &str, leaf: Leaf) -> Result<(), FileError> {
        let Some(place) = self.names.iter().position(|known| *known == name) else {
            return Err(FileError::Unexpected(leaf.path));
        };
        match self.texts[place].replace(leaf.text) {
            None => Ok(()),
            Some(_) => Err(FileError::Unexpected(leaf.path)),
        }
    }

    fn optional(&self, name: &'static str) -> Option<&str> {
        let place = self.names.iter().position(|known| *known == name);
        self.texts[place.expect("only names of this list are asked for")].as_deref()
    }

    fn required(&self, name: &'static str) -> Result<&str, FileError> {
        self.optional(name).ok_or(FileError::Missing(name))
    }

    fn fixed(&self, name: &'static str, expected: &str) -> Result<(), FileError> {
        match self.required(name)? {
            found if found == expected => Ok(()),
            found => Err(value(name, found)),
        }
    }

    fn party(&self, name: &'static str, iban: &'static str, bic: &'static str) -> Result<Party, FileError> {
        let text = self.required(iban)?;
        let wrong = |source| FileError::Iban { found: text.to_owned(), source };
        let parsed: Iban = text.parse().map_err(wrong)?;
        if parsed.as_str() != text {
            return Err(wrong(IbanError::Form));
        }
        let bic = self.optional(bic).map(|text| text.parse().map_err(|BicError| value(bic, text))).transpose()?;
        Ok(Party { name: sepa(name, self.required(name)?, SepaText::NAME_MAX)?, iban: parsed, bic })
    }
}

fn value(element: &'static str, found: &str) -> FileError {
    FileError::Value { element, found: found.chars().take(140).collect() }
}

fn sepa(element: &'static str, text: &str, max: usize) -> Result<SepaText, FileError> {
    SepaText::new(text, max).map_err(|_: TextError| value(element, text))
}

/// Reads a file of the form that [`write`] gives.
///
/// # Errors
/// If it has another form, or its counts, sums or bank details do not hold.
pub fn read(bytes: &[u8]) -> Result<File, FileError> {
    if bytes.len() > SIZE_MAX {
        return Err(FileError::TooLarge { found: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| FileError::Malformed(error.to_string()))?;
    let mut file = Found::new(FILE_LEAVES);
    let mut payments: Vec<(Found<6>, Option<String>)> = Vec::new();
    let opened = |path: &str, payments: &mut Vec<(Found<6>, Option<String>)>| {
        if path == PAYMENT {
            payments.push((Found::new(PAYMENT_LEAVES), None));
        }
    };
    let mut blocks = 0;
    leaves(text, |part| match part {
        Part::Opened(path) => {
            blocks += usize::from(path == PAYMENT_INFO);
            if blocks > 1 {
                // Its own sums would have to be told apart from those of the first.
                return Err(FileError::Unexpected(path.to_owned()));
            }
            opened(path, &mut payments);
            Ok(())
        }
        Part::Leaf(mut leaf) => {
            let currency = leaf.currency.take();
            let path = leaf.path.clone();
            match path.strip_prefix(PAYMENT).and_then(|rest| rest.strip_prefix('/')) {
                Some(name) => {
                    let (payment, of) = payments.last_mut().expect("its element was opened");
                    if currency.is_some() {
                        *of = currency;
                    }
                    payment.put(name, leaf)
                }
                None => file.put(path.strip_prefix("Document/CstmrCdtTrfInitn/").unwrap_or(&path), leaf),
            }
        }
    })?;
    assemble(&file, &payments)
}

fn assemble(file: &Found<16>, payments: &[(Found<6>, Option<String>)]) -> Result<File, FileError> {
    let (_, currency) = payments.first().ok_or(FileError::Missing("CdtTrfTxInf"))?;
    let code = currency.as_deref().ok_or(FileError::Missing("Ccy"))?;
    let currency: Currency = code.parse().map_err(|_: CurrencyUnknown| value("Ccy", code))?;

    let mut read = Vec::new();
    let (mut seen, mut sum) = (BTreeSet::new(), 0u64);
    for (found, of) in payments {
        if of.as_deref() != Some(code) {
            return Err(value("Ccy", of.as_deref().unwrap_or_default()));
        }
        let end_to_end = found.required("PmtId/EndToEndId")?;
        if !seen.insert(end_to_end) {
            return Err(FileError::Twice(end_to_end.to_owned()));
        }
        let text = found.required("Amt/InstdAmt")?;
        let amount = currency.read(text).filter(|amount| (MinorUnits(1)..=Batch::AMOUNT_MAX).contains(amount));
        let amount = amount.ok_or_else(|| value("Amt/InstdAmt", text))?;
        sum = sum.checked_add(amount.0).ok_or_else(|| value("Amt/InstdAmt", text))?;
        read.push(FilePayment {
            end_to_end: end_to_end.to_owned(),
            amount,
            creditor: found.party("Cdtr/Nm", "CdtrAcct/Id/IBAN", "CdtrAgt/FinInstnId/BICFI")?,
            remittance: sepa("RmtInf/Ustrd", found.required("RmtInf/Ustrd")?, SepaText::REMITTANCE_MAX)?,
        });
    }

    let counted = read.len() as u64;
    for name in ["GrpHdr/NbOfTxs", "PmtInf/NbOfTxs"] {
        let text = file.required(name)?;
        let stated: u64 = text.parse().map_err(|_| value(name, text))?;
        if stated != counted || text != counted.to_string() {
            return Err(FileError::Count { stated, counted });
        }
    }
    for name in ["GrpHdr/CtrlSum", "PmtInf/CtrlSum"] {
        let stated = file.required(name)?;
        if currency.read(stated) != Some(MinorUnits(sum)) {
            return Err(FileError::Sum { stated: stated.to_owned(), summed: currency.write(MinorUnits(sum)) });
        }
    }
    let message_id = file.required("GrpHdr/MsgId")?.to_owned();
    file.fixed("PmtInf/PmtInfId", &message_id)?;
    file.fixed("PmtInf/PmtMtd", "TRF")?;
    file.fixed("PmtInf/ChrgBr", "SLEV")?;
    match currency {
        Currency::Eur => file.fixed("PmtInf/PmtTpInf/SvcLvl/Cd", "SEPA")?,
        _ => match file.optional("PmtInf/PmtTpInf/SvcLvl/Cd") {
            None => {}
            Some(found) => return Err(value("PmtInf/PmtTpInf/SvcLvl/Cd", found)),
        },
    }
    let debtor = file.party("PmtInf/Dbtr/Nm", "PmtInf/DbtrAcct/Id/IBAN", "PmtInf/DbtrAgt/FinInstnId/BICFI")?;
    file.fixed("GrpHdr/InitgPty/Nm", debtor.name.as_str())?;
    match (&debtor.bic, file.optional("PmtInf/DbtrAgt/FinInstnId/Othr/Id")) {
        (Some(_), None) => {}
        (Some(_), Some(found)) => return Err(value("PmtInf/DbtrAgt/FinInstnId/Othr/Id", found)),
        (None, _) => file.fixed("PmtInf/DbtrAgt/FinInstnId/Othr/Id", NOT_PROVIDED)?,
    }
    Ok(File {
        message_id,
        created: file.required("GrpHdr/CreDtTm")?.to_owned(),
        execution: file.required("PmtInf/ReqdExctnDt/Dt")?.to_owned(),
        debtor,
        currency,
        payments: read,
        total: MinorUnits(sum),
    })
}

/// What a file is made of, in its order.
enum Part<'a> {
    /// An element begins.
    Opened(&'a str),
    /// An element without elements in it has ended.
    Leaf(Leaf),
}

/// An element that has not ended.
struct Open {
    /// Bytes of the path before it.
    path_before: usize,
    currency: Option<String>,
    has_elements: bool,
}

/// Takes the file apart. Nothing but elements, their text, the root's namespace and an amount's currency is let through.
fn leaves(text: &str, mut take: impl FnMut(Part<'_>) -> Result<(), FileError>) -> Result<(), FileError> {
    let mut reader = Reader::from_str(text);
    let malformed = |error: &dyn std::error::Error| FileError::Malformed(error.to_string());
    let (mut path, mut open, mut content): (String, Vec<Open>, String) = Default::default();
    let (mut started, mut ended) = (false, false);
    loop {
        match reader.read_event().map_err(|error| malformed(&error))? {
            Event::Decl(_) if !started => {}
            Event::Start(start) => {
                if ended {
                    return Err(FileError::Forbidden("a second root"));
                }
                let mut element = Open { path_before: path.len(), currency: None, has_elements: false };
                match open.last_mut() {
                    Some(parent) if !content.trim().is_empty() && !parent.has_elements => {
                        return Err(FileError::Unexpected(path));
                    }
                    Some(parent) => parent.has_elements = true,
                    None => {}
                }
                content.clear();
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(start.name().0);
                let mut namespace = None;
                for attribute in start.attributes() {
                    let attribute = attribute.map_err(|error| malformed(&error))?;
                    let set = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| malformed(&error))?;
                    match attribute.key.0 {
                        "xmlns" if open.is_empty() => namespace = Some(set.into_owned()),
                        "Ccy" if path.ends_with("/InstdAmt") => element.currency = Some(set.into_owned()),
                        other => return Err(FileError::Unexpected(format!("{path}/@{other}"))),
                    }
                }
                if open.is_empty() && (path != "Document" || namespace.as_deref() != Some(NAMESPACE)) {
                    return Err(FileError::Unexpected(path));
                }
                open.push(element);
                started = true;
                take(Part::Opened(&path))?;
            }
            Event::End(_) => {
                // That names match is checked by the reader.
                let Some(element) = open.pop() else { return Err(FileError::Forbidden("an end without a start")) };
                if element.has_elements {
                    if !content.trim().is_empty() {
                        return Err(FileError::Unexpected(path));
                    }
                } else {
                    let text = std::mem::take(&mut content);
                    take(Part::Leaf(Leaf { path: path.clone(), text, currency: element.currency }))?;
                }
                content.clear();
                path.truncate(element.path_before);
                ended = open.is_empty();
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                if open.is_empty() && !text.trim().is_empty() {
                    return Err(FileError::Forbidden("text outside of its root"));
                }
                content.push_str(&text);
            }
            Event::GeneralRef(name) => match resolve_predefined_entity(&name) {
                Some(text) if !open.is_empty() => content.push_str(text),
                _ => return Err(FileError::Forbidden("an entity")),
            },
            Event::Eof if ended => return Ok(()),
            Event::Eof => return Err(FileError::Malformed("it ends within an element".into())),
            Event::DocType(_) => return Err(FileError::Forbidden("a document type")),
            Event::CData(_) => return Err(FileError::Forbidden("a CDATA section")),
            Event::Comment(_) => return Err(FileError::Forbidden("a comment")),
            Event::PI(_) => return Err(FileError::Forbidden("a processing instruction")),
            Event::Decl(_) => return Err(FileError::Forbidden("a second declaration")),
            Event::Empty(_) => return Err(FileError::Forbidden("an empty element")),
        }
    }
}
