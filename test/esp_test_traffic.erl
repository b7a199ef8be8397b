%% Numbered data through a co-op, as fast as they can. None may be missing, come
%% twice or in another's place, and each must be the work of one version alone:
%% #{n := Number, by := [Version]}.
-module(esp_test_traffic).

-export([collector/1]).
-export([start/2]).
-export([some/1]).
-export([finish/1]).
-export([abandon/1]).
-export_type([order/0]).

-import(esp_test_lib, [eventually/2]).

-define(LIMIT, 30_000).

%% How numbers come out: all in order, those of each parity, or in any order.
-type order() :: all | parity | any.

%% The receiver of a co-op's results; it ends over what is out of place.
collector(Order) ->
    spawn_link(fun() -> collect(Order, new(Order), []) end).

start(Coop, Collector) ->
    Relay = spawn_link(fun() -> relay(Coop, 1) end),
    #{coop => Coop, relay => Relay, collector => Collector}.

relay(Coop, N) ->
    receive
        {stop, From} ->
            From ! {self(), N - 1, coop:flush(Coop, ?LIMIT)}
    after 0 ->
        case coop:relay_data(Coop, #{n => N, by => []}) of
            ok ->
                relay(Coop, N + 1);
            {error, _} = Error ->
                receive
                    {stop, From} -> From ! {self(), N - 1, Error}
                end
        end
    end.

new(all) -> 1;
new(parity) -> {1, 2};
new(any) -> #{}.

collect(Order, Seen, Bys) ->
    receive
        #{n := N, by := By} ->
            %% one version alone
            [_] = lists:usort(By),
            collect(Order, see(Order, N, Seen), add(hd(By), Bys));
        {report, From} ->
            From ! {self(), count(Order, Seen), lists:reverse(Bys)},
            collect(Order, Seen, Bys)
    end.

add(By, [By | _] = Bys) -> Bys;
add(By, Bys) -> [By | Bys].

see(all, N, N) -> N + 1;
see(parity, N, {N, Even}) -> {N + 2, Even};
see(parity, N, {Odd, N}) -> {Odd, N + 2};
see(any, N, Seen) when not is_map_key(N, Seen) -> Seen#{N => []}.

count(all, Next) -> Next - 1;
count(parity, {Odd, Even}) -> (Odd - 1) div 2 + (Even - 2) div 2;
count(any, Seen) -> map_size(Seen).

report(#{collector := Collector}) ->
    Collector ! {report, self()},
    receive
        {Collector, Count, Bys} -> {Count, Bys}
    after ?LIMIT -> ct:fail(no_report)
    end.

%% More of it than was there.
some(Traffic) ->
    {Before, _} = report(Traffic),
    eventually(traffic, fun() ->
        {Now, _} = report(Traffic),
        Now > Before + 200 orelse {Before, Now}
    end).

%% Everything that was relayed is there: how many, and the versions in turn.
finish(Traffic = #{relay := Relay}) ->
    Relay ! {stop, self()},
    Sent =
        receive
            {Relay, N, ok} -> N;
            {Relay, _, Error} -> ct:fail({relay, Error})
        after ?LIMIT -> ct:fail(relay_does_not_stop)
        end,
    eventually(all_that_was_sent, fun() ->
        {Count, _} = report(Traffic),
        Count =:= Sent orelse {Count, Sent}
    end),
    {Sent, _} = report(Traffic).

%% Of a co-op that has lost some, or is no more.
abandon(#{relay := Relay, collector := Collector}) ->
    lists:foreach(
        fun(Pid) ->
            unlink(Pid),
            exit(Pid, kill)
        end,
        [Relay, Collector]
    ).
