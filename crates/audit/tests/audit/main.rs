//! The audit of a pool that never was: green as it is, and red at the right row for every way to tamper with its files.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod claims;
mod files;
mod oracle;
mod sample;
mod tampering;

use caii_audit::{Asked, Options, audit};
use sample::{charter, policy, publish, small};

#[test]
fn an_honest_pool_is_green() {
    let (charter, policy) = (charter(), policy());
    let sample = small();
    let published = publish(&sample.events, &sample.payouts, 100);
    let device = Some(Asked { device: sample.id(0), claims: None });
    let options = Options { policy: Some(&policy), charter: Some(&charter), device, ..Options::default() };
    let report = audit(&published.files, &options).unwrap();
    println!("{report}");
    assert!(report.is_green(), "{report}");
    let contributor = report.contributor.unwrap();
    assert_eq!((contributor.accepted, contributor.waiting, contributor.voided), (92, 4, 0));
}
