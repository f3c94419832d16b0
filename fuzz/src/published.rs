//! What auditors read of a pool: entries of every kind, the files that open them, and the pieces that they hold.

use crate::memory::at_most;
use crate::seeds::Seed;
use caii_audit::{
    AuditDrawn, AuditDrawnMore, AuditOutcome, AuditedItem, ClaimRef, DeviceConvicted, Finding, Kind, Logged, Opening,
    Openings, PayoutSent, PoolFile, PoolOpened,
};
use caii_ledger::{CreditLimit, Entry, GrantKey, PayoutRun, Transfer, events};
use caii_model::{
    Account, Claim, DeviceId, Digest, Energy, Fuel, JobId, MeterId, MicroCredits, Millis, PoolId, Ppm, Receipt, Tariff,
    TariffTerms, TaskId, TaskIndex, Timestamp, Verdict, VerificationPolicy, VoidReason,
};
use caii_payout::{
    Approvers, Batch, BatchSpec, Currency, MinorUnits, Payable, Payee, Rate, SepaText, Statement, pain001,
};
use caii_trust::{Envelope, PublicKey, SigningKey};
use std::collections::BTreeSet;

/// Fields are copied, and a message names what is wrong.
fn heap(bytes: &[u8]) -> usize {
    (64 << 10) + 64 * bytes.len()
}

/// Entries of the log: what is accepted is the one form of what it says.
pub fn logged(bytes: &[u8]) {
    if let Ok(logged) = at_most(heap(bytes), || Logged::from_canonical(bytes)) {
        assert_eq!(logged.to_canonical(), bytes);
        assert_eq!(Kind::of(bytes), Some(logged.kind()));
        let _time = logged.at();
    }
    if let Ok(pool) = at_most(heap(bytes), || PoolFile::from_json(bytes)) {
        assert_eq!(PoolFile::from_json(&pool.to_json()), Ok(pool));
    }
}

/// A file of openings, after a byte with how many it should have. Differences make it larger than it is, within a bound.
pub fn openings(bytes: &[u8]) {
    let Some((width, file)) = bytes.split_first() else { return };
    let width = usize::from(*width);
    let expanded = heap(file) + 128 * width + file.len() * file.len() / 16;
    if let Ok(openings) = at_most(expanded, || Openings::from_bytes(file, width)) {
        assert_eq!(openings.openings.len(), width);
        assert_eq!(Openings::from_bytes(&openings.to_bytes(), width), Ok(openings));
    }
}

/// Receipts and what they hold, transfers and entries, a bank's file, approvals.
pub fn money(bytes: &[u8]) {
    if let Ok(receipt) = at_most(heap(bytes), || Receipt::from_canonical(bytes)) {
        assert_eq!(receipt.to_canonical(), bytes);
        if let Verdict::Accepted(accepted) = &receipt.verdict {
            assert!(accepted.reward.held <= accepted.reward.total && accepted.audit_fuel <= receipt.claim.fuel);
        }
        let _amounts = receipt.recompute(&tariff());
    }
    if let Ok(claim) = at_most(heap(bytes), || Claim::from_canonical(bytes)) {
        assert_eq!(claim.to_canonical(), bytes);
    }
    if let Ok(tariff) = at_most(heap(bytes), || Tariff::from_canonical(bytes)) {
        assert_eq!(tariff.to_canonical(), bytes);
    }
    if let Ok(transfer) = at_most(heap(bytes), || Transfer::from_canonical(bytes)) {
        assert_eq!(transfer.to_canonical(), bytes);
    }
    if let Ok(entry) = at_most(heap(bytes), || Entry::from_canonical(bytes)) {
        assert_eq!(entry.to_canonical(), bytes);
    }
    if let Ok(file) = at_most(heap(bytes), || pain001::read(bytes)) {
        let sum: u64 = file.payments.iter().map(|payment| payment.amount.0).sum();
        assert_eq!(file.total, MinorUnits(sum));
        // Spaces between elements say nothing.
        if let Ok(checked) = pain001::check(bytes, &batch()) {
            let written = pain001::write(&batch()).expect("it can be written");
            assert_eq!(Ok(checked), pain001::read(&written));
        }
    }
    if let Ok(envelope) = at_most(heap(bytes), || Envelope::from_json(bytes)) {
        assert_eq!(Envelope::from_json(&envelope.to_json()).as_ref(), Ok(&envelope));
        let people =
            [1, 2].map(|seed| (format!("p{seed}"), PublicKey::Ed25519(SigningKey::from_seed([seed; 32]).public())));
        let approvers = Approvers::new(2, people).expect("two of two");
        if let Ok(names) = approvers.approved(&statement(), &envelope) {
            assert_eq!(names, ["p1", "p2"], "nobody makes a signature but the seeds");
        }
    }
}

fn account() -> Account {
    Account::new("ann").expect("a name")
}

fn tariff() -> Tariff {
    Tariff::new(TariffTerms {
        number: 1,
        effective_from: Timestamp(1_700_000_000_000),
        compute_rate: MicroCredits(1_000_000),
        reliability_bonus: Ppm(200_000),
        reliability_share_floor: Ppm(500_000),
        availability_rate: MicroCredits(3_600_000),
        availability_daily_max: Millis(8 * 3_600_000),
        energy_rate: MicroCredits(500_000),
        energy_certified_joules: 40,
        verification_surcharge: Ppm(20_000),
        pool_fee: Ppm(50_000),
        probation_holdback: Ppm(250_000),
    })
    .expect("it is one")
}

fn receipt() -> Receipt {
    let claim = Claim {
        pool: PoolId([2; 8]),
        device: DeviceId([5; 8]),
        sequence: 7,
        task: TaskId { job: JobId(300), index: TaskIndex(4) },
        workload: Digest([6; 32]),
        meter: MeterId(Digest([3; 32])),
        input: Digest([7; 32]),
        root: Digest([8; 32]),
        items: 100,
        items_failed: 1,
        fuel: Fuel(1_000_000_000),
        cpu: Millis(900),
        wall: Millis(1_000),
        energy: Energy::UNKNOWN,
        jail: Digest([9; 32]),
    };
    Receipt {
        claim,
        claim_signature: [1; 64],
        owner: account(),
        policy: VerificationPolicy::Quorum { copies: 2 },
        tariff: tariff().digest(),
        at: Timestamp(1_700_000_001_000),
        verdict: Verdict::Void(VoidReason::Late),
    }
}

fn batch() -> Batch {
    let text = |text| SepaText::new(text, 70).expect("a text");
    let payee = |name| Payee { name: text(name), iban: "DE89370400440532013000".parse().expect("an IBAN"), bic: None };
    let spec = BatchSpec {
        pool: PoolId([2; 8]),
        run: PayoutRun(3),
        debtor: payee("Pool"),
        currency: Currency::Eur,
        rate: Rate(1_000.try_into().expect("it is not zero")),
        created: Timestamp(1_700_000_000_000),
        execution: Timestamp(1_700_000_000_000),
        remittance: text("Rewards"),
    };
    let payable = Payable { account: account(), amount: MicroCredits(5_000_001), payee: payee("Ann") };
    Batch::new(spec, &[payable], &BTreeSet::new()).expect("there is something to pay")
}

fn statement() -> Statement {
    let batch = batch();
    Statement::new(&batch, &pain001::write(&batch).expect("it can be written"), caii_payout::csv(&batch).as_bytes())
}

fn entry() -> Entry {
    let grant = events::granted(GrantKey([4; 16]), &account(), MicroCredits(7), Timestamp(1_700_000_000_000));
    grant.expect("it is more than nothing")
}

/// One of each kind.
fn every_kind() -> Vec<Logged> {
    let at = Timestamp(1_700_000_002_000);
    let (device, claim) = (DeviceId([5; 8]), ClaimRef { device: DeviceId([5; 8]), sequence: 7 });
    let found = |(finding, item)| AuditedItem { sequence: 7, item, finding };
    vec![
        Logged::PoolOpened(PoolOpened { key: [1; 32], charter: None, credit_limit: CreditLimit::Unlimited, at }),
        Logged::TariffEnacted { tariff: tariff(), at },
        Logged::DeviceEnrolled { key: [2; 32], owner: account(), at },
        Logged::WorkloadCertified {
            workload: Digest([6; 32]),
            charter: Digest([7; 32]),
            envelope: Digest([8; 32]),
            at,
        },
        Logged::Receipt(Box::new(receipt())),
        Logged::Entry(entry()),
        Logged::SecretCommitted { period: 1, commitment: Digest([3; 32]), at },
        Logged::SecretRevealed { period: 1, secret: [4; 32], at },
        Logged::AuditDrawn(AuditDrawn { claim, period: 1, depth: 409, drawn_before: 5, items: vec![1, 70], at }),
        Logged::AuditDrawnMore(AuditDrawnMore {
            job: JobId(300),
            device,
            period: 1,
            drawn_before: 7,
            open: vec![7, 8],
            items: vec![(7, 2), (8, 3)],
            at,
        }),
        Logged::AuditOutcome(AuditOutcome {
            of: device,
            auditor: Some(ClaimRef { device: DeviceId([6; 8]), sequence: 1 }),
            items: Finding::ALL.into_iter().zip(0..).map(found).collect(),
            at,
        }),
        Logged::DeviceConvicted(DeviceConvicted { device, evidence: claim, item: 1, as_auditor: false, at }),
        Logged::PayoutSent(PayoutSent {
            run: PayoutRun(3),
            currency: Currency::Eur,
            rate: Rate(1_000.try_into().expect("it is not zero")),
            pain001: Digest([1; 32]),
            csv: Digest([2; 32]),
            payments: vec![(account(), MinorUnits(5_000))],
            at,
        }),
        Logged::ClaimVoided { claim, reason: VoidReason::Undecided, at },
    ]
}

/// Where fuzzing starts.
pub(crate) fn seeds() -> Vec<Seed> {
    let kinds = every_kind();
    let mut seeds: Vec<Seed> =
        kinds.iter().map(|logged| ("logged", logged.kind().as_str(), logged.to_canonical())).collect();
    let key = SigningKey::from_seed([1; 32]).public();
    let pool = PoolFile {
        key,
        origin: "log.example".parse().expect("an origin"),
        log: vec![],
        charter: Some(Digest([1; 32])),
    };
    seeds.push(("logged", "pool", pool.to_json()));

    let open = |bytes| Opening::Open { salt: [1; 32], bytes, attachment: b"beside".to_vec() };
    let mut openings: Vec<Opening> = kinds.iter().map(|logged| open(logged.to_canonical())).collect();
    let mut later = receipt();
    later.claim.sequence += 1;
    openings.extend([open(later.to_canonical()), Opening::Erased { kind: Kind::Receipt }]);
    let width = openings.len() as u8;
    let file = Openings { openings, signature: [2; 64] }.to_bytes();
    seeds.push(("openings", "all", [&[width][..], &file].concat()));

    let mut approval = statement().envelope();
    for seed in [1, 2] {
        let key = SigningKey::from_seed([seed; 32]);
        let signature = key.sign_message(&approval.signed_bytes());
        approval.add(PublicKey::Ed25519(key.public()).id(), signature.to_vec());
    }
    let transfer = entry().transfers().next().expect("it has one");
    seeds.extend([
        ("money", "receipt", receipt().to_canonical()),
        ("money", "claim", receipt().claim.to_canonical()),
        ("money", "tariff", tariff().to_canonical()),
        ("money", "transfer", transfer.to_canonical()),
        ("money", "entry", entry().to_canonical()),
        ("money", "pain001", pain001::write(&batch()).expect("it can be written")),
        ("money", "approval", approval.to_json()),
    ]);
    seeds
}
