//! The payments of a batch as CSV (RFC 4180): for people, and for banks that take no XML.

use crate::Batch;
use caii_trust::format_time;

const HEAD: &str = "end_to_end_id,account,name,iban,bic,currency,amount,micro_credits,execution_date,remittance";

/// The batch as CSV: a head, a line for each payment, in the order of the XML file.
pub fn csv(batch: &Batch) -> String {
    let spec = &batch.spec;
    let day = format_time(spec.execution);
    let lines = batch.payments.iter().map(|payment| {
        let fields = [
            payment.end_to_end.as_str(),
            payment.account.as_str(),
            payment.payee.name.as_str(),
            payment.payee.iban.as_str(),
            payment.payee.bic.as_ref().map_or("", |bic| bic.as_str()),
            spec.currency.code(),
            &spec.currency.write(payment.amount),
            &payment.credits.0.to_string(),
            &day[..10],
            spec.remittance.as_str(),
        ];
        fields.map(quoted).join(",")
    });
    std::iter::once(HEAD.to_owned()).chain(lines).map(|line| line + "\r\n").collect()
}

/// Texts of banks have no quotes or line ends; commas they have.
fn quoted(field: &str) -> String {
    if field.contains(',') { format!("\"{field}\"") } else { field.to_owned() }
}
